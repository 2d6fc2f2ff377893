//! The program as such: names, help, inputs, events, handover. Nothing here needs a disk.

mod common;

use std::os::unix::process::CommandExt;

use common::{bare, run};
use spec::handover::Mode;
use spec::{Code, Event};

#[test]
fn every_action_explains_itself_under_every_name() {
    for action in actions::table::ACTIONS {
        for name in action.also.iter().chain([&action.name]) {
            let by_argument = bare().args([name, "--help"]).output().unwrap();
            let by_itself = bare().arg0(format!("/usr/bin/{name}")).arg("--help").output().unwrap();
            assert!(by_argument.status.success() && by_argument.stdout == by_itself.stdout, "{name}");
            let text = String::from_utf8(by_argument.stdout).unwrap();
            for input in action.inputs {
                assert!(text.contains(input.name), "{name}: no {}", input.name);
            }
        }
    }
}

#[test]
fn an_unknown_action_is_refused_with_the_list() {
    for args in [&["disk-whip"][..], &[]] {
        let output = bare().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stdout).unwrap().contains("disk-wipe"));
    }
}

#[test]
fn all_problems_of_the_inputs_come_at_once_and_only_once() {
    let done = run("image-write", &[("COMPRESSED", "maybe"), ("VERIFY", "all"), ("DEST_DISK", "sda"), ("HOME", "/")]);
    let failure = done.failure();
    assert_eq!(failure.code, Code::BadInput.as_str());
    for part in [
        "IMG_URL is required",
        "IMG_CHECKSUM is required",
        "COMPRESSED \"maybe\"",
        "VERIFY \"all\"",
        "DEST_DISK \"sda\"",
    ] {
        assert_eq!(failure.message.matches(part).count(), 1, "{part}: {failure:?}");
    }
}

#[test]
fn a_missing_disk_is_an_error_that_lists_candidates() {
    let env = [("DEST_DISK", "/dev/no-such-disk"), ("DEST_PATH", "/a"), ("WAIT_DEVICE_SECONDS", "0")];
    let done = run("file-write", &env);
    assert_eq!(done.failure().code, "disk_not_found");
    assert!(done.failure().message.contains("there are: "), "{done:?}");
}

#[test]
fn secrets_of_a_url_are_not_shown() {
    let env = [
        ("IMG_URL", "http://me:hunter2@127.0.0.1:1/x.raw?sig=hunter2"),
        ("DEST_DISK", "/dev/no-such-disk"),
        ("IMG_CHECKSUM", "none"),
        ("WAIT_DEVICE_SECONDS", "0"),
    ];
    let done = run("image-write", &env);
    assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
}

#[test]
fn boot_hands_over_to_the_agent_and_nothing_else_happens() {
    for (mode, expected) in [(None, Mode::Reboot), (Some("poweroff"), Mode::Poweroff)] {
        let env: Vec<_> = mode.map(|m| ("BOOT_MODE", m)).into_iter().collect();
        let done = run("boot", &env);
        assert_eq!(done.ok().events, [Event::Handover { mode: expected }]);
    }
}

#[test]
fn boot_by_kexec_is_refused_for_now() {
    let done = run("boot", &[("BOOT_MODE", "kexec")]);
    assert_eq!(done.failure().code, "bad_input");
}

#[test]
fn boot_does_not_fall_back_when_its_events_cannot_be_written() {
    let output = bare().arg("boot").env("IRONHOOK_EVENTS", "/no/such/directory/events").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("failed: handover: cannot tell the agent"));
}
