//! Devices that nobody drives and firmware that nobody has: told on the console once each, and kept as a file for
//! whoever reports the machine. One thread owns what is known; it looks when something has changed.

mod firmware;
mod names;
mod scan;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use spec::devices::{Device, Devices, Firmware};
use spec::paths::DEVICES;
use sys::kmsg::Log;

use crate::console::Console;
use firmware::Missing;

const SYS: &str = "/sys";
/// Devices come in swarms: the look is taken when no more have come for so long.
const QUIET: Duration = Duration::from_secs(1);
/// A driver that asks for another name for ever must not fill the memory.
const MOST_FILES: usize = 256;

/// To tell the thread with.
#[derive(Clone)]
pub struct Watch {
    tell: Sender<Told>,
}

enum Told {
    Changed,
    Missing(Missing),
}

struct Collector {
    console: Console,
    devices: Devices,
    /// Sentences that were said.
    said: HashSet<String>,
}

/// Begins to watch, the kernel's log from its first record on.
pub fn watch(console: &Console) -> io::Result<Watch> {
    let (tell, told) = mpsc::channel();
    let mut log = Log::open()?;
    let from_log = tell.clone();
    thread::Builder::new().name("kernel log".to_owned()).spawn(move || {
        while let Ok(record) = log.hear() {
            if let Some(missing) = firmware::missing(&record)
                && from_log.send(Told::Missing(missing)).is_err()
            {
                return;
            }
        }
    })?;
    let mut collector = Collector { console: console.clone(), devices: Devices::default(), said: HashSet::new() };
    thread::Builder::new().name("devices".to_owned()).spawn(move || collector.run(&told))?;
    let watch = Watch { tell };
    watch.changed();
    Ok(watch)
}

impl Watch {
    /// A device has come, gone, or got a driver.
    pub fn changed(&self) {
        // The thread ends with the machine only.
        let _ = self.tell.send(Told::Changed);
    }
}

impl Collector {
    fn run(&mut self, told: &Receiver<Told>) {
        while let Ok(first) = told.recv() {
            self.take(first);
            while let Ok(next) = told.recv_timeout(QUIET) {
                self.take(next);
            }
            self.look();
        }
    }

    fn take(&mut self, told: Told) {
        let Told::Missing(missing) = told else { return };
        let device = missing.pci_address.map(|address| Path::new(SYS).join("bus/pci/devices").join(address));
        let device = device.and_then(|path| scan::pci(&path)).map(named);
        let firmware = Firmware { file: missing.file, device };
        let known = &mut self.devices.missing_firmware;
        if known.len() < MOST_FILES && !known.contains(&firmware) {
            known.push(firmware);
        }
    }

    fn look(&mut self) {
        self.devices.without_driver = scan::without_driver(Path::new(SYS)).into_iter().map(named).collect();
        if let Err(error) = write(Path::new(DEVICES), &self.devices) {
            self.console.say(&format!("warning: write {DEVICES}: {error}"));
        }
        for sentence in sentences(&self.devices) {
            if self.said.insert(sentence.clone()) {
                self.console.say(&format!("warning: {sentence}"));
            }
        }
    }
}

fn named(device: Device) -> Device {
    Device { name: names::name(device.bus, &device.id), ..device }
}

/// What a person should know of: what stands in the way of installing, not every chip.
fn sentences(devices: &Devices) -> Vec<String> {
    let idle = devices.without_driver.iter().filter_map(|device| {
        let kind = scan::is_missed(device)?;
        Some(format!(
            "no driver for the {kind} device {device}: its module is not in this image (kernel/modules.list), or \
             modprobe.blacklist refuses it"
        ))
    });
    let files = devices.missing_firmware.iter().map(|firmware| {
        let asked = firmware.device.as_ref().map_or(String::new(), |device| format!(", which {device} asks for"));
        format!(
            "firmware {} is missing{asked}: add it to the image or to a second initramfs as /usr/lib/firmware/{}",
            firmware.file, firmware.file
        )
    });
    idle.chain(files).collect()
}

/// By rename, so that nobody reads half of it.
fn write(path: &Path, devices: &Devices) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_string(devices)? + "\n")?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::devices::Bus;

    fn device(class: &str) -> Device {
        let name = Some("Intel Corporation 82540EM Gigabit Ethernet Controller".to_owned());
        Device { bus: Bus::Pci, address: "0000:00:03.0".into(), id: "8086:100e".into(), class: class.into(), name }
    }

    #[test]
    fn people_are_told_of_what_they_would_miss_with_its_number_and_name() {
        let firmware = Firmware { file: "a/b.bin".into(), device: Some(device("020000")) };
        let devices = Devices {
            without_driver: vec![device("020000"), device("040300")],
            missing_firmware: vec![firmware, Firmware { file: "regulatory.db".into(), device: None }],
        };
        let said = sentences(&devices);
        assert_eq!(said.len(), 3, "a sound card is no loss: {said:#?}");
        let name = "pci 0000:00:03.0 [8086:100e] Intel Corporation 82540EM Gigabit Ethernet Controller";
        assert!(said[0].starts_with(&format!("no driver for the network device {name}: ")), "{}", said[0]);
        assert!(said[1].starts_with(&format!("firmware a/b.bin is missing, which {name} asks for: ")), "{}", said[1]);
        assert!(said[2].starts_with("firmware regulatory.db is missing: "), "{}", said[2]);
    }

    #[test]
    fn the_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("devices.json");
        for devices in [Devices { without_driver: vec![device("020000")], ..Devices::default() }, Devices::default()] {
            write(&path, &devices).unwrap();
            assert_eq!(serde_json::from_str::<Devices>(&std::fs::read_to_string(&path).unwrap()).unwrap(), devices);
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}
