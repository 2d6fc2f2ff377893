//! What an answer of the server means for a report: recorded, refused for good, or to be asked again. Pure.

use tonic::{Code, Status};

/// The server has understood and will never accept.
pub fn refusal(status: &Status) -> bool {
    gone(status) || matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition)
}

/// There is nothing to do for us: no such workflow or action, it is another worker's, or it has ended without us
/// (`proto::AGENT_HEADER`).
pub fn gone(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::PermissionDenied | Code::Aborted)
}

/// Not a fault on the way: `unknown` without a cause is what servers written in Go say of an error without a code.
pub fn answered(status: &Status) -> bool {
    status.code() == Code::Unknown && std::error::Error::source(status).is_none()
}

/// The call may not have reached the server, or its answer not us.
pub fn transport(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
        || (status.code() == Code::Internal && std::error::Error::source(status).is_some())
}

/// Nothing was recorded, for certain.
pub fn definite(status: &Status) -> bool {
    refusal(status) || matches!(status.code(), Code::Unimplemented | Code::Unauthenticated)
}

/// The server could not read the report, or has no such method: both generations have one of that name.
pub fn garbled(status: &Status) -> bool {
    matches!(status.code(), Code::Internal | Code::Unimplemented)
}

/// How a server of the newer generation says that there is no work (wire reference §4.5).
pub fn no_work(status: &Status) -> bool {
    const VIOLATION: &[u8] = b"PRECONDITION_FAILURE_VIOLATION_NO_ACTION_AVAILABLE";
    matches!(status.code(), Code::NotFound | Code::FailedPrecondition)
        || status.details().windows(VIOLATION.len()).any(|window| window == VIOLATION)
}

/// Code, message and causes in one line.
pub fn describe(status: &Status) -> String {
    let mut line = status.code().description().to_owned();
    let mut add = |text: &str| {
        if !text.is_empty() && !line.contains(text) {
            line.push_str(": ");
            line.push_str(text);
        }
    };
    add(status.message());
    if let Some(source) = std::error::Error::source(status) {
        add(&crate::text::chain(source));
    }
    // rustls' word for a first answer that is no record of TLS.
    if line.contains("InvalidContentType") {
        line.push_str(" (it does not speak TLS there; --tinkerbell-tls=false asks without)");
    }
    line.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_means_one_thing() {
        let codes = |judge: fn(&Status) -> bool| -> Vec<i32> {
            (0..=16).filter(|code| judge(&Status::new(Code::from_i32(*code), ""))).collect()
        };
        let number = |codes: &[Code]| codes.iter().map(|code| *code as i32).collect::<Vec<_>>();
        use Code::{
            Aborted, Cancelled, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound,
            PermissionDenied, Unauthenticated, Unavailable, Unimplemented, Unknown,
        };
        assert_eq!(codes(refusal), number(&[InvalidArgument, NotFound, PermissionDenied, FailedPrecondition, Aborted]));
        assert_eq!(codes(gone), number(&[NotFound, PermissionDenied, Aborted]));
        assert_eq!(codes(transport), number(&[Cancelled, Unknown, DeadlineExceeded, Unavailable]));
        assert_eq!(
            codes(definite),
            number(&[
                InvalidArgument,
                NotFound,
                PermissionDenied,
                FailedPrecondition,
                Aborted,
                Unimplemented,
                Unauthenticated
            ])
        );
        assert_eq!(codes(garbled), number(&[Unimplemented, Internal]));
        assert_eq!(codes(no_work), number(&[NotFound, FailedPrecondition]));
        let details = [b"\x12\x34PRECONDITION_FAILURE_VIOLATION_NO_ACTION_AVAILABLE".as_slice(), b"\x1a"].concat();
        assert!(no_work(&Status::with_details(Code::Internal, "", details.into())));
    }
}
