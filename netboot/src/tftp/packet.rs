//! TFTP on the wire (RFC 1350, 2347, 2348, 2349, 7440): what a server reads and writes. Pure.

/// Without options, a block has this many bytes.
const BLOCK: u16 = 512;
/// More would be cut into fragments on Ethernet, which boot firmware is bad at; a server may answer less than asked.
const BLOCK_MAX: u16 = 1468;
/// More gains nothing on a link without loss, and costs on one with.
const WINDOW_MAX: u16 = 32;

/// What a client sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message {
    Read(Request),
    Write,
    Ack(u16),
    Error { code: u16, message: String },
}

/// A file that is asked for, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    /// As the client wrote it.
    pub path: String,
    /// In lower case.
    pub mode: String,
    options: Vec<(String, String)>,
}

/// How a transfer goes, and what the client is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Terms {
    pub block: u16,
    pub window: u16,
    /// Seconds between repetitions, if the client cares.
    pub timeout: Option<u8>,
    /// The options that we take part in; empty: no acknowledgement of options.
    pub accepted: Vec<(&'static str, String)>,
}

/// Codes of errors (RFC 1350, 2347).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(super) enum ErrorCode {
    Undefined = 0,
    NotFound = 1,
    Denied = 2,
    Illegal = 4,
}

impl Message {
    /// None for what is no message of a client.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (opcode, rest) = bytes.split_first_chunk::<2>()?;
        let number = || rest.first_chunk().map(|octets| u16::from_be_bytes(*octets));
        match u16::from_be_bytes(*opcode) {
            1 => Request::decode(rest).map(Self::Read),
            2 => Some(Self::Write),
            4 => number().map(Self::Ack),
            5 => {
                let message = rest[2.min(rest.len())..].split(|byte| *byte == 0).next().unwrap_or_default();
                Some(Self::Error { code: number()?, message: printable(message) })
            }
            _ => None,
        }
    }
}

impl Request {
    fn decode(bytes: &[u8]) -> Option<Self> {
        // Some firmware leaves out the last NUL, some appends rubbish: both are read as far as they make sense.
        let mut fields = bytes.split(|byte| *byte == 0).map(printable);
        let (path, mode) = (fields.next()?, fields.next()?.to_ascii_lowercase());
        let mut options = Vec::new();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            options.push((name.to_ascii_lowercase(), value));
        }
        Some(Self { path, mode, options })
    }

    /// The last component: directories mean nothing here, and some clients put their MAC address in front.
    pub(super) fn base_name(&self) -> &str {
        self.path.rsplit(['/', '\\']).next().unwrap_or_default()
    }

    /// What we agree to; a value that makes no sense is as if it had not been given.
    pub(super) fn terms(&self, size: u64) -> Terms {
        let mut terms = Terms { block: BLOCK, window: 1, timeout: None, accepted: Vec::new() };
        for (name, value) in &self.options {
            let Ok(number) = value.parse::<u64>() else { continue };
            let small = u16::try_from(number).unwrap_or(u16::MAX);
            match name.as_str() {
                "blksize" if small >= 8 => {
                    terms.block = small.min(BLOCK_MAX);
                    terms.accept("blksize", terms.block);
                }
                "windowsize" if small >= 1 => {
                    terms.window = small.min(WINDOW_MAX);
                    terms.accept("windowsize", terms.window);
                }
                "timeout" if (1..=255).contains(&number) => {
                    terms.timeout = Some(number as u8);
                    terms.accept("timeout", number);
                }
                "tsize" => terms.accept("tsize", size),
                _ => {}
            }
        }
        terms
    }
}

impl Terms {
    fn accept(&mut self, name: &'static str, value: impl ToString) {
        if !self.accepted.iter().any(|(each, _)| *each == name) {
            self.accepted.push((name, value.to_string()));
        }
    }

    /// The acknowledgement of options.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0, 6];
        for (name, value) in &self.accepted {
            for text in [*name, value] {
                bytes.extend(text.as_bytes());
                bytes.push(0);
            }
        }
        bytes
    }
}

/// The blocks of a window, in memory that is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Datagrams {
    /// None.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Block `number`, the first being 1.
    pub(super) fn push(&mut self, number: u16, block: &[u8]) {
        self.bytes.extend([0, 3]);
        self.bytes.extend(number.to_be_bytes());
        self.bytes.extend(block);
        self.ends.push(self.bytes.len());
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// The end of a transfer that cannot be.
pub(super) fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    [&[0, 5], &(code as u16).to_be_bytes()[..], message.as_bytes(), &[0]].concat()
}

/// For fuzzing: reads a datagram as the service does.
pub fn probe(bytes: &[u8]) {
    if let Some(Message::Read(request)) = Message::decode(bytes) {
        let terms = request.terms(u64::MAX);
        assert!((8..=BLOCK_MAX).contains(&terms.block) && (1..=WINDOW_MAX).contains(&terms.window));
        assert!(!request.base_name().contains(['/', '\\']));
    }
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Request {
        match Message::decode(&[&[0, 1], text.as_bytes()].concat()) {
            Some(Message::Read(request)) => request,
            other => panic!("{text:?} is {other:?}"),
        }
    }

    #[test]
    fn options_are_answered_within_our_limits() {
        let request = request(
            "/52:54:00:00:00:01/a.efi\0OCTET\0tsize\x00000\0BLKSIZE\x0065464\0windowsize\x0099\0timeout\x003\0x\0y\0",
        );
        assert_eq!((request.base_name(), request.mode.as_str()), ("a.efi", "octet"));
        let terms = request.terms(7000);
        assert_eq!((terms.block, terms.window, terms.timeout), (BLOCK_MAX, WINDOW_MAX, Some(3)));
        assert_eq!(terms.encode(), b"\0\x06tsize\x007000\0blksize\x001468\0windowsize\x0032\0timeout\x003\0");
    }

    #[test]
    fn options_without_sense_are_left_out() {
        let terms = request("a\0octet\0blksize\x007\0windowsize\x000\0timeout\x00256\0tsize\0-1\0blksize").terms(1);
        assert_eq!(terms, Terms { block: BLOCK, window: 1, timeout: None, accepted: vec![] });
    }

    #[test]
    fn no_path_survives() {
        for path in ["../../etc/passwd", "/etc/passwd", "..\\passwd", "passwd"] {
            assert_eq!(request(&format!("{path}\0octet\0")).base_name(), "passwd");
        }
        assert_eq!(request("..\0octet\0").base_name(), "..");
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(Message::decode(&[0, 4, 1, 2]), Some(Message::Ack(0x102)));
        assert_eq!(Message::decode(&[0, 2, b'a', 0]), Some(Message::Write));
        let error = Message::Error { code: 8, message: "no?".into() };
        assert_eq!(Message::decode(b"\0\x05\0\x08no\n\0"), Some(error));
        for bytes in [&[][..], &[0], &[0, 4, 1], &[0, 5], &[0, 5, 0], &[0, 1], &[0, 9, 0, 0]] {
            assert_eq!(Message::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), opcode in 0_u8..7) {
            for bytes in [bytes.clone(), [&[0, opcode][..], &bytes].concat()] {
                if let Some(Message::Read(request)) = Message::decode(&bytes) {
                    let terms = request.terms(1 << 20);
                    prop_assert!((8..=BLOCK_MAX).contains(&terms.block) && (1..=WINDOW_MAX).contains(&terms.window));
                    prop_assert!(!request.base_name().contains('/'));
                }
            }
        }
    }
}
