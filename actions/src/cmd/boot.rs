//! `boot`: ends our time on the machine. Under Ironhook's agent it only says so, and the agent hands over once the
//! success of this action is on record. Under a stock worker it leaves a child behind that waits a moment.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use spec::handover::Mode;
use spec::paths::{EVENTS_ENV, REBOOT_FILE, WORKER};
use spec::{Code, Event};
use sys::power::{self, End};

use crate::cmd::{Context, environment};
use crate::failed::{Coded, Failed};
use crate::input::{self, DRY_RUN, Input, Lookup, Presence, Problems, Reader};
use crate::table::Action;

/// The argument that makes this program the child.
pub const LATER: &str = "boot-later";

const INPUTS: &[Input] = &[
    Input { name: "BOOT_MODE", also: &[], presence: Presence::Default("reboot"), doc: "reboot or poweroff." },
    Input {
        name: "DELAY_SECONDS",
        also: &["WAIT_SECONDS"],
        presence: Presence::Default("10"),
        doc: "Under a stock worker: how long to wait, so that it can report this action's success.",
    },
    DRY_RUN,
];

/// Its row of the table.
pub const ACTION: Action = Action {
    name: "boot",
    also: &["reboot"],
    doc: "Reboots the machine or switches it off, after its success is on record.",
    inputs: INPUTS,
    run,
};

#[derive(Debug)]
struct Wish {
    mode: Mode,
    delay: Duration,
    dry_run: bool,
}

/// Why the machine is not handed over.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot tell the agent")]
    Tell(#[source] io::Error),
    #[error("cannot leave a process behind")]
    Detach(#[source] io::Error),
    #[error("as process 1 of a container nothing can be left behind: give the action pid: host or the volume /worker")]
    Alone,
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::Handover
    }
}

fn read(lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let mode = r.optional("BOOT_MODE", mode);
    let delay = r.value("DELAY_SECONDS", input::seconds);
    let dry_run = r.value("DRY_RUN", input::boolean);
    r.finish()?;
    Ok(Wish { mode: mode.unwrap_or(Mode::Reboot), delay, dry_run })
}

fn mode(text: &str) -> Result<Mode, String> {
    match text.trim() {
        "reboot" => Ok(Mode::Reboot),
        "poweroff" => Ok(Mode::Poweroff),
        "kexec" => Err("kexec is not supported yet; use reboot".into()),
        _ => Err(format!("{text:?} is none of reboot, poweroff")),
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Reboot => "reboot",
        Mode::Poweroff => "poweroff",
        Mode::Kexec => "kexec",
    }
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = read(&environment)?;
    let report = context.report;
    // A file of events that cannot be opened must not turn into a machine that goes down before its time.
    let has_agent = std::env::var_os(EVENTS_ENV).is_some_and(|path| !path.is_empty());
    let how = if has_agent { "by the agent".into() } else { format!("{} s after this action", wish.delay.as_secs()) };
    report.plan(&format!("{} {how}", word(wish.mode)));
    if wish.dry_run {
        return Ok(());
    }
    if has_agent {
        if !report.has_events() {
            return Err(Error::Tell(io::Error::other("the file of events could not be opened")).into());
        }
        report.event(&Event::Handover { mode: wish.mode }).map_err(Error::Tell)?;
        return Ok(());
    }
    Ok(detach(wish.mode, wish.delay)?)
}

/// Starts this program again, in a process group of its own, with nothing of ours open.
fn detach(mode: Mode, delay: Duration) -> Result<(), Error> {
    // What process 1 of a container leaves behind dies with it.
    if std::process::id() == 1 {
        return if mode == Mode::Reboot && has_watcher() {
            ask_watcher().map_err(Error::Detach)
        } else {
            Err(Error::Alone)
        };
    }
    let me = std::env::current_exe().map_err(Error::Detach)?;
    Command::new(me)
        .arg0("ironhook-actions")
        .args([LATER, word(mode), &delay.as_secs().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(drop)
        .map_err(Error::Detach)
}

/// The child's part: waits, then ends the machine by the first way that is there. Its output goes nowhere.
pub fn later(args: &[String]) -> ExitCode {
    let [mode, seconds] = args else { return ExitCode::from(2) };
    let (Ok(mode), Ok(delay)) = (self::mode(mode), input::seconds(seconds)) else { return ExitCode::from(2) };
    leave_control_group();
    thread::sleep(delay);
    match end(mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The environment's own watcher where there is one (it can only reboot), else the kernel.
fn end(mode: Mode) -> io::Result<()> {
    if mode == Mode::Reboot && has_watcher() {
        return ask_watcher();
    }
    power::sync();
    if is_initial_pid_namespace() {
        return Err(power::end(if mode == Mode::Poweroff { End::PowerOff } else { End::Reboot }));
    }
    // reboot(2) would only end our namespace; the trigger is the machine's (admin-guide/sysrq).
    fs::write("/proc/sysrq-trigger", if mode == Mode::Poweroff { "o" } else { "b" })
}

fn has_watcher() -> bool {
    Path::new(WORKER).is_dir()
}

fn ask_watcher() -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(REBOOT_FILE).map(drop)
}

/// A container engine kills what is left in the group when a container of the host's PID namespace ends. Where that
/// cannot be escaped, the child dies with its parent, and nothing can be done about it from here.
fn leave_control_group() {
    let root = Path::new("/proc/1/root/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in hierarchies.chain([root.to_owned()]) {
        let _ = fs::write(group.join("cgroup.procs"), "0");
    }
}

/// The kernel gives the first PID namespace a fixed number (PROC_PID_INIT_INO, linux/proc_ns.h).
fn is_initial_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kexec_is_refused_in_words() {
        let lookup = |name: &str| (name == "BOOT_MODE").then(|| "kexec".to_owned());
        let problems = read(&lookup).unwrap_err();
        assert!(problems.to_string().contains("kexec is not supported yet"), "{problems}");
    }

    #[test]
    fn the_default_is_a_reboot_after_ten_seconds() {
        let wish = read(&|_: &str| None).unwrap();
        assert_eq!((wish.mode, wish.delay), (Mode::Reboot, Duration::from_secs(10)));
    }
}
