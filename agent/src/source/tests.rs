//! The real client against a server on the real wire: both prefixes, with and without `ironhook.v1`, and its faults.

use clap::{Args, FromArgMatches};
use proto::workflow::State;
use spec::event::Progress;
use spec::failure::Code as FailureCode;

use super::*;
use crate::config::Flags;
use crate::job::Span;
use crate::progress::Reporter;

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Fault, Server, Serving, Speaks, WORKER, action};

fn source(authority: std::net::SocketAddr) -> Source {
    let id = format!("--id={WORKER}");
    let server = format!("--tinkerbell-grpc-authority={authority}");
    let arguments = ["agent", &id, &server, "--tinkerbell-tls=false", "--retry-interval=20ms"];
    let found = Flags::augment_args(clap::Command::new("agent")).try_get_matches_from(arguments).unwrap();
    let flags = Flags::from_arg_matches(&found).unwrap();
    Source::new(&Config::resolve(flags, |_| None).unwrap(), Vec::new()).unwrap()
}

fn serving(speaks: Speaks) -> (Server, Source, Serving) {
    let server = Server::new();
    let serving = server.serve("127.0.0.1:0", speaks);
    (server, source(serving.address), serving)
}

async fn offered(source: &mut Source) -> (Attempt, bool) {
    match source.poll().await.unwrap() {
        Offer::Run { attempt, begun, .. } => (attempt, begun),
        other => panic!("{other:?}"),
    }
}

fn failed(attempt: &Attempt) -> Ended {
    let failure = Failure { exit_status: Some(7), ..Failure::new(FailureCode::ExitStatus, "seven") };
    Ended {
        attempt: attempt.clone(),
        outcome: Outcome::Failed(failure),
        span: Span { seconds: 3, stop: 1_700_000_000 },
        handover: None,
        doubt: false,
        reaction: None,
    }
}

#[tokio::test]
async fn a_classic_server_gets_the_reason_in_one_line() {
    for speaks in [Speaks::Classic, Speaks::ClassicOldPrefix] {
        let (server, mut source, _serving) = serving(speaks);
        server.add("default/w", vec![action("a", "i")]);
        let (attempt, begun) = offered(&mut source).await;
        assert!(!begun);
        assert_eq!(source.report_start(&attempt).await, Answer::Acknowledged);
        assert!(offered(&mut source).await.1, "the server now holds it for running");
        assert_eq!(source.report_end(&failed(&attempt)).await, Answer::Acknowledged);
        let seen = server.seen();
        let end = seen.end("default/w").unwrap();
        assert_eq!((end.action_status(), end.message.as_str(), end.seconds), (State::Failed, "exit_status: seven", 3));
        assert_eq!((end.task_name.as_str(), end.worker_id.as_str()), ("os", WORKER));
        assert!(seen.details.is_empty() && !seen.calls.contains(&"Hello".to_owned()));
    }
}

#[tokio::test]
async fn a_newer_server_has_the_detail_before_the_end() {
    let (server, mut source, _serving) = serving(Speaks::Both);
    server.add("w", vec![action("a", "i")]);
    let (attempt, _) = offered(&mut source).await;
    source.report_start(&attempt).await;
    source.report_end(&failed(&attempt)).await;
    let seen = server.seen();
    let calls: Vec<&str> = seen.calls.iter().map(String::as_str).collect();
    let want = [
        "Hello",
        "GetWorkflowContexts",
        "GetWorkflowActions",
        "Claim",
        "a STATE_RUNNING",
        "ReportFailure",
        "a STATE_FAILED",
    ];
    assert_eq!(calls, want);
    assert_eq!((seen.details[0].code.as_str(), seen.details[0].exit_status), ("exit_status", Some(7)));
    let id = "id of w/a";
    assert_eq!((attempt.id.as_str(), seen.details[0].action.as_ref().unwrap().action_id.as_str()), (id, id));
    assert_eq!(seen.ids, [id, id], "both reports carry what the claim was answered with");
}

#[tokio::test]
async fn a_report_is_repeated_until_answered_and_a_refused_duplicate_is_doubtful() {
    let (server, mut source, _serving) = serving(Speaks::Both);
    server.add("w", vec![action("a", "i"), action("b", "i")]);
    let (attempt, _) = offered(&mut source).await;
    server.fail_next(&[Fault::Unavailable, Fault::Unavailable]);
    assert_eq!(source.report_start(&attempt).await, Answer::Acknowledged);
    server.fail_next(&[Fault::AnswerLost]);
    let success = Ended { outcome: Outcome::Succeeded, ..failed(&attempt) };
    assert_eq!(source.report_end(&success).await, Answer::Refused { gone: false, doubt: true });
    assert_eq!(server.seen().reports.len(), 2, "RUNNING and SUCCESS, each recorded once");
    assert_eq!(source.report_end(&success).await, Answer::Refused { gone: false, doubt: false });
    assert_eq!(offered(&mut source).await.0.action, "b");
}

#[tokio::test]
async fn what_is_not_ours_to_do_is_told_apart() {
    let (server, mut source, _serving) = serving(Speaks::Classic);
    server.add("w", vec![action("a", "i")]);
    let (attempt, _) = offered(&mut source).await;
    for code in [Code::NotFound, Code::PermissionDenied, Code::Aborted] {
        server.fail_next(&[Fault::Refused(code)]);
        assert_eq!(source.report_start(&attempt).await, Answer::Refused { gone: true, doubt: false }, "{code:?}");
        server.fail_next(&[Fault::Unavailable, Fault::Refused(code)]);
        let answer = source.report_end(&failed(&attempt)).await;
        assert!(matches!(answer, Answer::Refused { gone: true, .. }), "{code:?} {answer:?}");
    }
    assert!(server.seen().ours, "the agent says who it is");
}

#[tokio::test]
async fn a_refused_detail_does_not_hold_back_the_end() {
    for code in [Code::PermissionDenied, Code::Unknown, Code::OutOfRange, Code::ResourceExhausted, Code::Aborted] {
        let (server, mut source, _serving) = serving(Speaks::Both);
        server.add("w", vec![action("a", "i")]);
        let (attempt, _) = offered(&mut source).await;
        server.refuse_details(code);
        assert_eq!(source.report_end(&failed(&attempt)).await, Answer::Acknowledged, "{code:?}");
    }
}

#[tokio::test]
async fn nothing_is_lost_while_the_server_is_away_and_another_one_may_come_back() {
    let server = Server::new();
    server.add("w", vec![action("a", "i")]);
    let serving = server.serve("127.0.0.1:0", Speaks::Both);
    let address = serving.address;
    let mut source = source(address);
    let (attempt, _) = offered(&mut source).await;
    source.report_start(&attempt).await;
    drop(serving);
    assert!(source.poll().await.is_err());
    let report = tokio::spawn(async move { (source.report_end(&failed(&attempt)).await, source) });
    let _serving = server.serve(&address.to_string(), Speaks::Classic);
    let (answer, _) = report.await.unwrap();
    assert_eq!(answer, Answer::Acknowledged);
    assert!(server.seen().details.is_empty(), "the server that came back has no ironhook.v1");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be_in_one_line() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = source(free).poll().await.unwrap_err().to_string();
    assert!(error.starts_with("Hello failed: ") && error.contains("refused") && !error.contains('\n'), "{error}");
}

#[tokio::test]
async fn an_action_that_cannot_be_understood_is_offered_as_such() {
    let (server, mut source, _serving) = serving(Speaks::Classic);
    server.add("w", vec![action("a", "")]);
    match source.poll().await.unwrap() {
        Offer::Malformed(attempt, failure) => {
            assert_eq!(attempt.action, "a");
            assert_eq!(failure.one_line(), "bad_input: the server's action: field image is empty");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn having_nothing_to_do_has_a_reason() {
    let (server, mut source, _serving) = serving(Speaks::Classic);
    let why = |offer| match offer {
        Offer::Nothing(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(source.poll().await.unwrap()), format!("the server has no workflow for worker {WORKER}"));
    server.add("w", vec![proto::workflow::WorkflowAction { worker_id: "other".into(), ..action("a", "i") }]);
    assert_eq!(why(source.poll().await.unwrap()), "workflow w waits for worker \"other\" with action \"a\"");
}

#[tokio::test]
async fn what_is_not_at_work_goes_along_with_what_the_machine_is() {
    let (server, mut source, _serving) = serving(Speaks::Both);
    let dir = tempfile::tempdir().unwrap();
    source.devices = dir.path().join("devices.json");
    source.attributes = vec![0x3a, 0];
    assert!(!source.report_inventory().await, "nobody was asked yet");
    source.poll().await.unwrap();
    let firmware = r#"{"missing_firmware":[{"file":"a.bin"}]}"#;
    for (written, told) in [(None, ""), (Some(firmware), firmware), (Some("rubbish"), "")] {
        if let Some(text) = written {
            std::fs::write(&source.devices, text).unwrap();
        }
        assert!(source.report_inventory().await);
        let last = server.seen().inventories.pop().unwrap();
        assert_eq!((last.attributes, last.devices), (vec![0x3a, 0], told.as_bytes().to_vec()), "{written:?}");
    }
    source.attributes.clear();
    std::fs::write(&source.devices, firmware).unwrap();
    assert!(source.report_inventory().await);
    assert_eq!(server.seen().inventories.pop().unwrap().devices, firmware.as_bytes(), "without attributes too");
}

#[tokio::test]
async fn progress_goes_out_bounded_and_its_last_word_arrives() {
    let (server, mut source, _serving) = serving(Speaks::Both);
    server.add("w", vec![action("a", "i")]);
    let (attempt, _) = offered(&mut source).await;
    let (reporter, receiver) = Reporter::new();
    let forward = tokio::spawn(source.forward(attempt, receiver));
    for done in 1..=100 {
        reporter.say(Progress { done, total: 100, unit: "bytes".into(), message: String::new() });
        tokio::task::yield_now().await;
    }
    let seen = server.wait("the last progress", |seen| seen.progress.iter().any(|progress| progress.done == 100)).await;
    assert!(seen.progress.len() <= 3, "{:?}", seen.progress);
    assert_eq!(seen.progress[0].action.as_ref().unwrap().action_name, "a");
    drop(reporter);
    forward.await.unwrap();
}

#[tokio::test]
async fn a_cancelled_lease_reaches_the_executor_and_its_log_the_server() {
    let (server, mut source, _serving) = serving(Speaks::Both);
    server.add("w", vec![action("a", "i")]);
    let (attempt, _) = offered(&mut source).await;
    let (reporter, listener) = Reporter::new();
    let forward = tokio::spawn(source.forward(attempt, listener));
    reporter.log(&["one".into(), "two".into()]);
    server.wait("the log", |seen| seen.log == ["one", "two"]).await;
    server.wait("a lease", |seen| seen.calls.iter().any(|call| call == "Lease")).await;
    server.cancel("wrong rack");
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), reporter.cancelled()).await.unwrap(), "wrong rack");
    drop(reporter);
    forward.await.unwrap();
}

#[tokio::test]
async fn a_line_that_nobody_listens_to_ends_with_its_reporter() {
    let (server, mut source, _serving) = serving(Speaks::Classic);
    server.add("w", vec![action("a", "i")]);
    let (attempt, _) = offered(&mut source).await;
    let (reporter, listener) = Reporter::new();
    let forward = tokio::spawn(source.forward(attempt, listener));
    reporter.log(&["nobody".into()]);
    drop(reporter);
    forward.await.unwrap();
    assert!(server.seen().log.is_empty());
}

#[tokio::test]
async fn tls_needs_the_authority_of_the_site_and_our_certificate() {
    use tonic::transport::{Certificate, Identity, ServerTlsConfig};
    let dir = tempfile::tempdir().unwrap();
    common::certificates::make(dir.path());
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    let server = Server::new();
    server.add("w", vec![action("a", "i")]);
    let serving = server.serve_over("127.0.0.1:0", Speaks::Both, Some(tls));
    let ca = ("IRONHOOK_CA_FILE", path("ca.pem"));
    let ours = [("IRONHOOK_CLIENT_CERT", path("client.pem")), ("IRONHOOK_CLIENT_KEY", path("client.key"))];
    let ticket = ("IRONHOOK_TICKET", "single-use".to_owned());
    for (environment, works) in [
        (vec![ca.clone(), ours[0].clone(), ours[1].clone(), ticket.clone()], true),
        (vec![ours[0].clone(), ours[1].clone()], false),
        (vec![ca.clone()], false),
        (vec![("TINKERBELL_INSECURE_TLS", "true".into()), ours[0].clone(), ours[1].clone(), ticket], true),
    ] {
        let given = |name: &str| match name {
            "WORKER_ID" => Some(WORKER.to_owned()),
            "TINKERBELL_GRPC_AUTHORITY" => Some(serving.address.to_string()),
            name => environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()),
        };
        let mut source = Source::new(&Config::resolve(Flags::default(), given).unwrap(), Vec::new()).unwrap();
        let polled = source.poll().await;
        assert_eq!(polled.is_ok(), works, "{environment:?}: {polled:?}");
    }
    let bare = server.serve("127.0.0.1:0", Speaks::Both);
    let given = |name: &str| match name {
        "WORKER_ID" => Some(WORKER.to_owned()),
        "TINKERBELL_GRPC_AUTHORITY" => Some(bare.address.to_string()),
        _ => None,
    };
    let mut source = Source::new(&Config::resolve(Flags::default(), given).unwrap(), Vec::new()).unwrap();
    let error = source.poll().await.unwrap_err().to_string();
    assert!(error.contains("it does not speak TLS there; --tinkerbell-tls=false asks without"), "{error}");
    assert_eq!(server.seen().tickets, ["single-use", ""], "a ticket is for whom we have verified");
    let missing = Config::resolve(Flags::default(), |name| match name {
        "WORKER_ID" => Some(WORKER.to_owned()),
        "TINKERBELL_GRPC_AUTHORITY" => Some("h:1".to_owned()),
        "IRONHOOK_CA_FILE" => Some("/nonexistent.pem".to_owned()),
        _ => None,
    });
    let error = Source::new(&missing.unwrap(), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read certificate authorities /nonexistent.pem");
}
