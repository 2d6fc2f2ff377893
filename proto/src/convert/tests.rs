//! Every field of an action, good and bad, and the reports as the field words them.

use proptest::prelude::*;
use prost::Message;
use spec::Code;

use super::*;

fn wire() -> workflow::WorkflowAction {
    workflow::WorkflowAction {
        task_name: "os".into(),
        name: "write".into(),
        image: "registry/image-write:1".into(),
        timeout: 90,
        worker_id: "52:54:00:00:00:01".into(),
        volumes: vec!["/dev:/dev".into(), "/lib/firmware:/lib/firmware:ro".into()],
        environment: vec!["MODE=0644".into(), "EMPTY=".into(), "URL=http://a/?b=c".into()],
        pid: "host".into(),
        ..Default::default()
    }
}

fn refused(change: impl FnOnce(&mut workflow::WorkflowAction)) -> String {
    let mut wire = wire();
    change(&mut wire);
    action("default/install", wire).unwrap_err().to_string()
}

#[test]
fn a_good_action_keeps_every_word() {
    let action = action("default/install", wire()).unwrap();
    assert_eq!(action.timeout, Duration::from_secs(90));
    assert_eq!(action.environment, ["MODE=0644", "EMPTY=", "URL=http://a/?b=c"]);
    assert_eq!(action.workflow.as_str(), "default/install");
    assert_eq!(action.pid, "host");
}

#[test]
fn no_timeout_is_an_hour() {
    let action = action("w", workflow::WorkflowAction { timeout: 0, ..wire() }).unwrap();
    assert_eq!(action.timeout, Duration::from_secs(3600));
}

#[test]
fn every_bad_field_is_named() {
    assert_eq!(refused(|w| w.image = " ".into()), "field image is empty");
    assert_eq!(refused(|w| w.name.clear()), "field name is empty");
    assert_eq!(refused(|w| w.task_name.clear()), "field task_name is empty");
    assert_eq!(refused(|w| w.worker_id.clear()), "field worker_id is no id");
    assert_eq!(refused(|w| w.timeout = -1), "field timeout is negative: -1 s");
    assert!(refused(|w| w.pid = "hots".into()).contains("pid is \"hots\""));
    assert!(refused(|w| w.volumes.push("/dev".into())).starts_with("entry 2 of field volumes (\"/dev\")"));
    assert!(refused(|w| w.volumes.push("/a:b".into())).contains("absolute target"));
    assert!(action("../etc", wire()).is_err());
}

#[test]
fn a_bad_environment_entry_is_shown_without_its_value() {
    let text = refused(|w| w.environment.push("=hunter2".into()));
    assert!(text.contains("entry 3 of field environment"), "{text}");
    let other = refused(|w| w.environment.push("hunter2".into()));
    assert!(!text.contains("hunter2") && !other.contains("hunter2"), "{text} {other}");
}

#[test]
fn terminal_reports_carry_state_and_reason() {
    let attempt = Attempt::of(&action("default/install", wire()).unwrap(), 1);
    let report = ended(&attempt, &Outcome::TimedOut(Failure::new(Code::Timeout, "took too long")), 7);
    assert_eq!(report.action_status(), workflow::State::Timeout);
    assert_eq!((report.seconds, report.message.as_str()), (7, "timeout: took too long"));
    let report = ended(&attempt, &Outcome::Succeeded, u64::MAX);
    assert_eq!((report.action_status(), report.seconds), (workflow::State::Success, i64::MAX));
    assert_eq!(report.created_at, None);
}

proptest! {
    #[test]
    fn no_bytes_of_a_peer_make_conversion_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(wire) = workflow::WorkflowAction::decode(bytes.as_slice()) {
            let _ = action("w", wire);
        }
    }

    #[test]
    fn what_is_accepted_is_complete(
        image in ".{0,8}", name in ".{0,8}", timeout in any::<i64>(),
        env in proptest::collection::vec(".{0,6}", 0..4), volumes in proptest::collection::vec("[a:/]{0,6}", 0..3),
    ) {
        let wire = workflow::WorkflowAction { image, name, timeout, environment: env, volumes, ..wire() };
        if let Ok(action) = action("w", wire) {
            prop_assert!(!action.image.trim().is_empty() && !action.name.trim().is_empty());
            prop_assert!(action.timeout > Duration::ZERO);
            prop_assert!(action.environment.iter().all(|e| e.find('=').is_some_and(|at| at > 0)));
            prop_assert!(action.volumes.iter().all(|v| v.contains(":/")));
        }
    }
}
