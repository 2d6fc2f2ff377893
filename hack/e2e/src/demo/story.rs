//! What has happened so far, from events to lines for the screen and marks for the table. Pure: no clock, no I/O.

use std::time::Duration;

use spec::Mac;
use spec::activity::{Activity, What};
use spec::event::Progress;

use super::Event;

/// Something for the screen.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Said {
    /// A step is done, or begins.
    Step(String),
    /// How far the running one is.
    Progress { action: String, progress: Progress },
}

/// A phase of the whole, in the order of their ends.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Mark {
    /// What took the time since the mark before.
    pub name: String,
    /// When it was over, since power-on.
    pub at: Duration,
}

/// How it all ended.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum End {
    /// The installed OS has spoken.
    Installed,
    /// With the reason.
    Failed(String),
}

/// Listens to events and knows what they mean.
pub(super) struct Story {
    mac: Mac,
    actions: Vec<&'static str>,
    announcement: String,
    ready: bool,
    installed: bool,
    marks: Vec<Mark>,
    last: String,
    end: Option<End>,
}

impl Story {
    /// Of the machine with this MAC address, which is to run these actions and whose OS is to say this.
    pub fn new(mac: Mac, actions: Vec<&'static str>, announcement: String) -> Self {
        let (marks, last) = (Vec::new(), "power on".to_owned());
        Self { mac, actions, announcement, ready: false, installed: false, marks, last, end: None }
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The phases that are over.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The last step that was told.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// What an event means.
    pub fn hear(&mut self, event: Event, now: Duration) -> Vec<Said> {
        let said = match event {
            Event::Over(reason) => {
                self.fail(reason);
                Vec::new()
            }
            Event::Console(line) => self.console(&line.text, now),
            Event::Activity(activity) => self.activity(activity, now),
        };
        if let Some(step) = said.iter().rev().find_map(|s| if let Said::Step(text) = s { Some(text) } else { None }) {
            self.last.clone_from(step);
        }
        said
    }

    fn console(&mut self, text: &str, now: Duration) -> Vec<Said> {
        if text.contains(&self.announcement) {
            self.mark("installed OS boots, cloud-init", now);
            self.end = Some(End::Installed);
            return step(format!("the installed OS says: {}", self.announcement));
        }
        if text.contains("Kernel panic") {
            self.fail(text.trim().to_owned());
            return Vec::new();
        }
        if self.installed {
            let reached = ["Linux version ", "systemd[1]: Detected ", "Reached target network-online", " login: "];
            return if reached.iter().any(|part| text.contains(part)) {
                step(format!("target: {}", text.trim()))
            } else {
                Vec::new()
            };
        }
        let Some((_, phase)) = text.split_once("ironhook: ") else { return Vec::new() };
        if !self.ready && phase.starts_with("agent ready") {
            self.ready = true;
            self.mark("installation environment starts", now);
        }
        step(phase.trim().to_owned())
    }

    fn activity(&mut self, activity: Activity, now: Duration) -> Vec<Said> {
        if activity.mac.is_some_and(|mac| mac != self.mac) {
            return Vec::new();
        }
        match activity.what {
            What::Dhcp { address, client } if client.is_empty() => step(format!("DHCP: {address}")),
            What::Dhcp { address, client } => step(format!("DHCP: {address} for {client}")),
            What::Refused { asked, why } => step(format!("refused {asked}: {why}")),
            What::Script { boots } => self.script(&boots, now),
            What::File { service, path, bytes, total, ms } => self.file(&service, &path, (bytes, total, ms), now),
            // Told already by the console, where they come at once and not at the end of the boot.
            What::Phase { .. } => Vec::new(),
            What::Action { action, state, message, .. } => self.action(&action, &state, &message, now),
            What::Progress { action, progress, .. } => vec![Said::Progress { action, progress }],
            What::Workflow { workflow, state, message } => {
                if state == "FAILED" || state == "TIMEOUT" {
                    self.fail(format!("workflow {workflow} ended as {state}: {message}"));
                }
                step(format!("workflow {workflow}: {state}"))
            }
        }
    }

    fn script(&mut self, boots: &str, now: Duration) -> Vec<Said> {
        if boots == "disk" && self.marks.iter().any(|mark| self.actions.last() == Some(&mark.name.as_str())) {
            self.installed = true;
            self.mark("reboot, firmware, iPXE", now);
        } else if boots == "installer" {
            self.mark("firmware, DHCP, iPXE", now);
        }
        step(format!("iPXE: script for {boots}"))
    }

    fn file(&mut self, service: &str, path: &str, (bytes, total, ms): (u64, u64, u64), now: Duration) -> Vec<Said> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if bytes < total {
            return step(format!("{service}: {name} broke off after {bytes} of {total} bytes"));
        }
        if name.starts_with("initramfs-") {
            self.mark("kernel and initramfs loaded", now);
        }
        step(format!("{service}: {name}, {:.1} MiB in {:.1} s", mib(bytes), ms as f64 / 1000.0))
    }

    fn action(&mut self, action: &str, state: &str, message: &str, now: Duration) -> Vec<Said> {
        match state {
            "RUNNING" => return step(format!("{action}: running")),
            "SUCCESS" => self.mark(action, now),
            "FAILED" | "TIMEOUT" => self.fail(format!("action {action} ended as {state}: {message}")),
            _ => {}
        }
        step(format!("{action}: {state}"))
    }

    /// A machine may ask twice; the first time counts.
    fn mark(&mut self, name: &str, at: Duration) {
        if !self.marks.iter().any(|mark| mark.name == name) {
            self.marks.push(Mark { name: name.to_owned(), at });
        }
    }

    fn fail(&mut self, reason: String) {
        self.end.get_or_insert(End::Failed(reason));
    }
}

fn step(text: String) -> Vec<Said> {
    vec![Said::Step(text)]
}

/// Bytes as MiB.
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Line;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn story() -> Story {
        Story::new(MAC, vec!["disk-wipe", "boot"], "installed: host m4rk".into())
    }

    fn happens(mac: Mac, what: What) -> Event {
        Event::Activity(Activity { at_ms: 0, mac: Some(mac), machine: None, what })
    }

    fn script(boots: &str) -> What {
        What::Script { boots: boots.into() }
    }

    fn action(action: &str, state: &str) -> What {
        let (workflow, task, message) = ("default/w".into(), "t".into(), "because".into());
        What::Action { workflow, task, action: action.into(), state: state.into(), message }
    }

    fn console(text: &str) -> Event {
        Event::Console(Line { at: Duration::ZERO, text: text.into() })
    }

    #[test]
    fn a_whole_installation_leaves_a_mark_a_phase() {
        let mut story = story();
        let file = What::File { service: "http".into(), path: "/x/initramfs-x86_64".into(), bytes: 5, total: 5, ms: 1 };
        let events = [
            happens(MAC, script("installer")),
            happens(MAC, file),
            console("worker: ironhook: agent ready (worker a, server b)"),
            happens(MAC, action("disk-wipe", "RUNNING")),
            happens(MAC, action("disk-wipe", "SUCCESS")),
            happens(MAC, action("boot", "SUCCESS")),
            happens(MAC, script("disk")),
            console("[   30.1] cloud-init[4]: installed: host m4rk"),
        ];
        for (second, event) in (1..).zip(events) {
            assert_eq!(story.end(), None);
            story.hear(event, Duration::from_secs(second));
        }
        assert_eq!(story.end(), Some(&End::Installed));
        let names: Vec<&str> = story.marks().iter().map(|mark| mark.name.as_str()).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        assert_eq!(names[5], "reboot, firmware, iPXE");
        assert!(story.marks().is_sorted_by_key(|mark| mark.at));
    }

    #[test]
    fn a_failed_action_ends_it_with_the_reason() {
        let mut story = story();
        story.hear(happens(MAC, action("disk-wipe", "FAILED")), Duration::ZERO);
        assert_eq!(story.end(), Some(&End::Failed("action disk-wipe ended as FAILED: because".into())));
    }

    #[test]
    fn other_machines_are_not_heard() {
        let other = Mac::new([2, 0, 0, 0, 0, 2]);
        assert!(story().hear(happens(other, script("installer")), Duration::ZERO).is_empty());
    }
}
