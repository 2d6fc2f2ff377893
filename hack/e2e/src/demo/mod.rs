//! `ironhook-lab demo`: one machine from power-on to its installed OS, told as it happens.
//! Everything shown comes from the server's activity and the machine's console; nothing is assumed to have happened.

mod report;
mod screen;
mod story;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use spec::Mac;
use spec::activity::Activity;
use uuid::Uuid;

use crate::activity;
use crate::console::Line;
use crate::lab::{HTTP, Lab, LabError, Places};
use crate::manifests::{Hardware, announcement, installation, user_data, workflow};
use crate::vm::{Firmware, Vm, empty_disk};
use screen::Screen;
use story::{End, Story};

const MACHINE: &str = "demo";
const MAC: Mac = Mac::new([0x52, 0x54, 0x00, 0xd0, 0x0d, 0x01]);
const DISK: u64 = 2 << 30;
/// Longer than anything takes that tells nothing meanwhile, on a slow machine without KVM.
const SILENCE: Duration = Duration::from_secs(300);

/// The demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The server's activity.
    #[error("cannot follow the server's activity")]
    Activity(#[source] std::io::Error),
    /// The story ended badly.
    #[error("{reason}; serial console: {serial}; server: {server}")]
    Failed {
        /// Why.
        reason: String,
        /// The console's log.
        serial: PathBuf,
        /// The server's log.
        server: PathBuf,
    },
}

/// What the story is told from.
#[derive(Debug)]
enum Event {
    Activity(Activity),
    Console(Line),
    /// A source dried up, with the reason.
    Over(String),
}

/// Runs the demo.
pub fn run(places: Places) -> Result<(), DemoError> {
    let mut screen = Screen::new();
    let mut lab = Lab::new("demo", places, &mut |step| screen.note(step))?;
    screen.note(&format!("machines run under {}", lab.accel()));
    let marker = Uuid::new_v4().simple().to_string();
    let hardware = hardware(&marker);
    let url = format!("http://{HTTP}/files/target.raw.zst");
    let steps = installation(&url, &lab.target().sha256);
    lab.apply("hardware", &hardware.yaml())?;
    lab.apply("workflow", &workflow("demo", &hardware, &steps))?;
    let disk = lab.dir().join("demo.raw");
    empty_disk(&disk, DISK).map_err(LabError::from)?;

    let (to, events) = channel();
    follow_server(&lab, to.clone())?;
    let mut vm = lab.boot(MACHINE, MAC, Firmware::SeaBios, &[disk])?;
    let start = Instant::now();
    follow_console(&vm, to)?;
    let names = steps.iter().map(|step| step.name).collect();
    let mut story = Story::new(MAC, names, announcement(&hardware.hostname, &marker));
    let outcome = tell(&mut lab, &mut story, &events, start, &mut screen);
    screen.end();
    // That QEMU itself gave up explains all else.
    let gave_up = vm.check().err().map(|error| error.to_string());
    let failed = |reason: String| {
        let reason = gave_up.unwrap_or(reason);
        let (serial, server) = (vm.console().log().to_owned(), lab.server_log());
        DemoError::Failed { reason, serial, server }
    };
    outcome.map_err(failed)?;
    print!("{}", report::report(story.marks(), &lab, vm.console().log()));
    Ok(())
}

fn hardware(marker: &str) -> Hardware {
    Hardware {
        name: MACHINE.into(),
        mac: MAC,
        address: [192, 168, 56, 10].into(),
        hostname: format!("demo-{}", &marker[..6]),
        user_data: user_data(marker),
    }
}

/// Feeds the story until it ends.
fn tell(
    lab: &mut Lab,
    story: &mut Story,
    events: &Receiver<Event>,
    start: Instant,
    screen: &mut Screen,
) -> Result<(), String> {
    loop {
        let event = match events.recv_timeout(SILENCE) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => {
                let (silence, last) = (SILENCE.as_secs(), story.last());
                return Err(format!("nothing happened for {silence} s after: {last}"));
            }
            Err(RecvTimeoutError::Disconnected) => return Err("server and machine are both gone".into()),
        };
        let now = start.elapsed();
        lab.check().map_err(|error| error.to_string())?;
        for said in story.hear(event, now) {
            screen.show(now, &said);
        }
        match story.end() {
            None => {}
            Some(End::Installed) => return Ok(()),
            Some(End::Failed(reason)) => return Err(reason.clone()),
        }
    }
}

fn follow_server(lab: &Lab, to: Sender<Event>) -> Result<(), DemoError> {
    let activities = activity::follow(lab.api()).map_err(DemoError::Activity)?;
    let pump = move || {
        for activity in activities {
            let event = match activity {
                Ok(activity) => Event::Activity(activity),
                Err(error) => Event::Over(format!("the server's activity broke off: {error}")),
            };
            if to.send(event).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("activity".into()).spawn(pump).map_err(DemoError::Activity)?;
    Ok(())
}

fn follow_console(vm: &Vm, to: Sender<Event>) -> Result<(), DemoError> {
    let lines = vm.console().follow();
    let pump = move || {
        for line in lines {
            if to.send(Event::Console(line)).is_err() {
                return;
            }
        }
        // Nobody listens any more when the demo itself has switched it off.
        let _ = to.send(Event::Over("the machine was switched off".into()));
    };
    std::thread::Builder::new().name("lines".into()).spawn(pump).map_err(DemoError::Activity)?;
    Ok(())
}
