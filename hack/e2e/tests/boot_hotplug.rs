//! Devices that come when the machine has long been up: QEMU is told over its own protocol to plug them in, and init
//! loads the modules that drive them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use e2e::direct::{Build, Machine, SERIAL};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(300);
/// What it says is what the kernel has: which modules there are before, and who drives what has come.
const YAML: &str = r#"kernel: {image: docker.io/ironhook/kernel:dev}
init: [docker.io/ironhook/init:dev]
services:
  - name: look
    image: docker.io/ironhook/busybox:dev
    net: host
    command:
      - /bin/sh
      - -c
      - |
        for module in e1000e usb_storage; do [ ! -e /sys/module/$module ] || echo $module is there too early; done
        echo plug now
        while [ ! -e /sys/class/net/eth0 ]; do sleep 1; done
        echo eth0 is driven by $(readlink /sys/class/net/eth0/device/driver)
        while [ ! -e /sys/class/block/sda ]; do sleep 1; done
        echo sda is here, $(ls /sys/bus/usb/drivers/usb-storage | grep -c :) by usb-storage
        sleep 3600
    annotations: {dev.ironhook.console: "true"}
"#;

/// QEMU's machine protocol: a line of JSON each way, and events in between.
struct Qmp(BufReader<UnixStream>);

impl Qmp {
    fn connect(path: &Path) -> Self {
        let mut qmp = Self(BufReader::new(UnixStream::connect(path).unwrap()));
        assert!(qmp.line()["QMP"].is_object());
        qmp.execute("qmp_capabilities", &json!({}));
        qmp
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "QEMU has ended");
        serde_json::from_str(&line).unwrap()
    }

    fn execute(&mut self, command: &str, arguments: &Value) {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.0.get_mut(), "{request}").unwrap();
        loop {
            let answer = self.line();
            assert!(answer["error"].is_null(), "{request}: {answer}");
            if answer.get("return").is_some() {
                return;
            }
        }
    }
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_card_and_a_stick_that_come_later_get_their_drivers() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, disk) = (directory.path().join("qmp"), directory.path().join("stick"));
    std::fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
    let qmp = format!("unix:{},server=on,wait=off", socket.display());
    let drive = format!("if=none,id=stick,format=raw,file={}", disk.display());
    let devices = ["-device", "pcie-root-port,id=slot1,slot=1", "-device", "qemu-xhci,id=usb"];
    let qemu = [&SERIAL[..], &devices, &["-netdev", "user,id=net0", "-drive", &drive, "-qmp", &qmp]].concat();
    let build =
        Build { name: "boot-hotplug", yaml: &[YAML], append: "console=ttyS0 quiet", memory_mib: 512, qemu: &qemu };
    let machine = Machine::start(&build).unwrap_or_else(|e| panic!("{e:?}"));
    let sees = |text: &str| machine.line(text, BOOT).unwrap_or_else(|e| panic!("{e}")).text;
    sees("look: plug now");
    let early = machine.console().lines_from(0).into_iter().find(|line| line.text.contains("too early"));
    assert!(early.is_none(), "{early:?}");
    let mut qmp = Qmp::connect(&socket);
    qmp.execute(
        "device_add",
        &json!({"driver": "e1000e", "id": "card", "bus": "slot1", "netdev": "net0", "romfile": ""}),
    );
    let line = sees("look: eth0 is driven by ");
    assert!(line.ends_with("/e1000e"), "{line}");
    qmp.execute("device_add", &json!({"driver": "usb-storage", "id": "plugged", "bus": "usb.0", "drive": "stick"}));
    let line = sees("look: sda is here, ");
    assert!(line.ends_with(", 1 by usb-storage"), "{line}");
}
