//! A real file, written as an action would, well and badly.

use std::fs;
use std::io::Write;

use proptest::prelude::*;
use spec::failure::Code;

use super::*;

fn told(content: &[u8]) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    fs::write(&path, content).unwrap();
    let mut tail = Tail::new(path);
    tail.read(&Reporter::new().0);
    tail.told
}

fn progress(done: u64) -> String {
    Event::Progress(Progress { done, total: 9, unit: "bytes".into(), message: String::new() }).to_line()
}

#[test]
fn everything_that_was_told_is_known_in_the_end() {
    let error = Event::Error(Failure::new(Code::DiskBusy, "mounted")).to_line();
    let handover = Event::Handover { mode: Mode::Reboot }.to_line();
    let told = told(format!("{}{}nonsense\n\n{error}{handover}", progress(1), progress(2)).as_bytes());
    assert_eq!(told.progress.unwrap().done, 2);
    assert_eq!(told.failure.unwrap().code, "disk_busy");
    assert_eq!(told.handover, Some(Mode::Reboot));
}

#[test]
fn a_line_in_two_writes_is_one_event_and_a_torn_one_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let mut file = fs::File::create(&path).unwrap();
    let mut tail = Tail::new(path);
    let (reporter, receiver) = Reporter::new();
    let line = progress(7);
    file.write_all(&line.as_bytes()[..10]).unwrap();
    tail.read(&reporter);
    assert_eq!(*receiver.progress.borrow(), None);
    file.write_all(&line.as_bytes()[10..]).unwrap();
    tail.read(&reporter);
    assert_eq!(receiver.progress.borrow().as_ref().unwrap().done, 7);
    file.write_all(b"{\"v\":1,\"type\":\"handover\",\"mode\":\"reboot\"}").unwrap();
    tail.read(&reporter);
    assert_eq!(tail.told.handover, None);
}

#[test]
fn a_line_too_long_does_not_hide_the_next() {
    let told = told(format!("{}\n{}", "x".repeat(3 * MAX_LINE), progress(3)).as_bytes());
    assert_eq!(told.progress.unwrap().done, 3);
}

#[test]
fn nothing_is_read_beyond_the_cap() {
    let mut content = vec![b'\n'; MAX_FILE as usize];
    content.extend_from_slice(progress(1).as_bytes());
    assert_eq!(told(&content).progress, None);
}

#[test]
fn a_link_in_its_place_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("elsewhere"), progress(1)).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join("events.jsonl")).unwrap();
    let mut tail = Tail::new(dir.path().join("events.jsonl"));
    tail.read(&Reporter::new().0);
    assert_eq!(tail.told.progress, None);
}

#[tokio::test]
async fn what_was_written_before_the_end_counts_even_if_never_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let (done, ended) = watch::channel(false);
    let following = tokio::spawn(follow(path.clone(), Reporter::new().0, ended));
    fs::write(&path, Event::Handover { mode: Mode::Poweroff }.to_line()).unwrap();
    done.send_replace(true);
    assert_eq!(following.await.unwrap().handover, Some(Mode::Poweroff));
}

proptest! {
    #[test]
    fn no_content_makes_it_panic(content in proptest::collection::vec(any::<u8>(), 0..400)) {
        told(&content);
    }
}
