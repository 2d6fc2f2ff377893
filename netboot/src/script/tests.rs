//! Scripts against their goldens, and what must never be in one.

use std::path::Path;

use spec::cmdline::{Cmdline, LIMIT_EFI, site};

use super::*;
use crate::WorkflowState;
use crate::tests::{MAC, machine, settings};

fn boot<'a>(machine: &'a Machine, history: &'a History, settings: &'a Settings) -> Boot<'a> {
    Boot { mac: MAC, machine: Some(machine), history, settings, ticket: None }
}

fn script(machine: &Machine, settings: &Settings, verdict: &Verdict) -> Result<Script, ScriptError> {
    boot(machine, &History::default(), settings).ipxe(verdict).unwrap()
}

fn installer(facility: &str, extra: &[&str]) -> Machine {
    let base = machine();
    let installer = Installer {
        worker_id: "worker-1".parse().unwrap(),
        facility: (!facility.is_empty()).then(|| facility.into()),
        extra_args: extra.iter().map(|arg| (*arg).to_owned()).collect(),
        ..base.installer.clone().unwrap()
    };
    Machine { installer: Ok(installer), ..base }
}

/// `UPDATE_GOLDENS=1` rewrites the file.
fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[test]
fn scripts_are_the_golden_ones() {
    golden("installer.ipxe", &script(&machine(), &settings(), &Verdict::Installer).unwrap().text);
    let mut done = machine();
    done.workflow = crate::Workflow::default();
    golden("disk.ipxe", &script(&done, &settings(), &Verdict::Disk).unwrap().text);
    let site = Settings { kernel_args: vec!["quiet".into(), "panic=30".into()], grpc_tls: true, ..settings() };
    let arm = Machine { arch: "aarch64".into(), ..installer("onprem", &["ironhook.panic_seconds=0"]) };
    golden("installer-aarch64.ipxe", &script(&arm, &site, &Verdict::Installer).unwrap().text);
    let url = "http://10.0.0.9/boot.ipxe".to_owned();
    golden("chain.ipxe", &script(&machine(), &settings(), &Verdict::Chain(url)).unwrap().text);
    let mut failed = machine();
    failed.workflow =
        crate::Workflow { name: "default/w".into(), state: WorkflowState::Failed, reason: "disk is gone".into() };
    let (history, site) = (History { boots: 3, ..History::default() }, settings());
    golden("park.ipxe", &boot(&failed, &history, &site).ipxe(&Verdict::Park).unwrap().unwrap().text);
    let grub = boot(&failed, &history, &site).file(Kind::Grub, &Verdict::Installer).unwrap().unwrap();
    golden("installer.grub", &grub.text);
}

#[test]
fn an_environment_of_the_machines_own_goes_by_its_own_names() {
    let with = |kernel: &str, initrd: &str| {
        let own = Installer {
            base_url: Some("http://10.0.0.9:7173/".into()),
            kernel: Some(kernel.into()),
            initrd: Some(initrd.into()),
            ..machine().installer.unwrap()
        };
        Machine { installer: Ok(own), ..machine() }
    };
    let hook = with("vmlinuz-latest-lts-x86_64", "lts/initramfs-latest-lts-x86_64");
    let text = script(&hook, &settings(), &Verdict::Installer).unwrap().text;
    assert!(text.contains("set file http://10.0.0.9:7173/vmlinuz-latest-lts-x86_64\n"), "{text}");
    assert!(text.contains("set file http://10.0.0.9:7173/lts/initramfs-latest-lts-x86_64\n"), "{text}");
    assert!(text.contains(" initrd=initramfs-latest-lts-x86_64 "), "{text}");
    let other = boot(&hook, &History::default(), &settings()).file(Kind::Grub, &Verdict::Installer).unwrap();
    assert_eq!(other, Err(ScriptError::OwnEnvironment));
    for name in ["a b", "../vmlinuz", "${x}", "a\nshell", ""] {
        let refused = script(&with(name, "initramfs"), &settings(), &Verdict::Installer);
        assert_eq!(refused, Err(ScriptError::Line(LineError::File(name.into()))));
    }
}

/// What the kernel's EFI stub reads of its line is a directive to pxelinux, and on virtual media a file that is not there.
#[test]
fn pxelinux_and_isolinux_are_told_one_initramfs() {
    let (machine, history, settings) = (machine(), History::default(), settings());
    let text = boot(&machine, &history, &settings).file(Kind::Pxelinux, &Verdict::Installer).unwrap().unwrap().text;
    assert!(text.contains("INITRD initramfs-x86_64\n") && !text.contains("initrd="), "{text}");
}

fn kernel_line(machine: &Machine) -> String {
    let text = script(machine, &settings(), &Verdict::Installer).unwrap().text;
    text.lines().find(|line| line.starts_with("kernel ")).unwrap().to_owned()
}

#[test]
fn an_operators_console_replaces_ours_wherever_it_is_written() {
    for machine in [installer("", &["console=ttyS1,9600"]), installer("onprem console=ttyS1,9600", &["quiet"])] {
        let line = kernel_line(&machine);
        assert_eq!(line.matches("console=").count(), 1, "{line}");
        assert!(line.contains(" console=ttyS1,9600 ") && !line.contains("ironhook.consoles"), "{line}");
    }
}

#[test]
fn the_command_line_parses_back_without_problems() {
    let line = kernel_line(&installer("onprem", &["quiet"]));
    let parsed = Cmdline::parse(&line);
    assert!(parsed.problems().is_empty(), "{:?}", parsed.problems());
    assert_eq!(parsed.get(&spec::cmdline::WORKER_ID), Some("worker-1"));
    assert_eq!(parsed.boot_mac(), Some(MAC));
    assert_eq!(parsed.get_bool(&spec::cmdline::TINKERBELL_TLS), Some(false));
}

#[test]
fn what_ipxe_would_not_pass_on_is_refused() {
    for argument in ["a=${net0/mac}", "a || shell", "a && b", "#a", "a ; b", "a\nshell"] {
        let wanted = ScriptError::Line(LineError::Argument(argument.into()));
        for machine in [installer("", &[argument]), installer(argument, &[])] {
            assert_eq!(script(&machine, &settings(), &Verdict::Installer).unwrap_err(), wanted);
        }
    }
}

#[test]
fn what_does_not_fit_moves_into_the_file_and_nothing_is_lost() {
    let proxies = format!("NO_PROXY={}", "10.0.0.0/8,".repeat(200));
    let machine = installer("", &["quiet", &proxies, "tink_worker_image=a:1", "tink_worker_image=b:2"]);
    let line = boot(&machine, &History::default(), &settings()).line().unwrap();
    assert!(line.text.len() <= LIMIT_EFI && line.wanted > LIMIT_EFI, "{}", line.text.len());
    let url = "ironhook.config=http://10.0.0.1:7080/ipxe/config/52:54:00:00:00:01/site.conf";
    assert!(line.text.ends_with(url) && line.text.contains(" quiet "), "{}", line.text);
    assert!(line.text.contains(" hw_addr=52:54:00:00:00:01 "), "{}", line.text);
    let file = site::parse(&line.file.unwrap(), true).unwrap();
    let get = |name: &str| file.iter().find(|(key, _)| key.name == name).map(|(_, value)| value.clone());
    assert_eq!(format!("NO_PROXY={}", get("NO_PROXY").unwrap()), proxies);
    assert_eq!(get("tink_worker_image").as_deref(), Some("b:2"), "the last one counts");
}

#[test]
fn what_is_the_kernels_own_and_too_long_is_an_error_with_its_length() {
    let machine = installer("", &["x".repeat(3000).as_str()]);
    let error = script(&machine, &settings(), &Verdict::Installer).unwrap_err();
    assert!(too_long(&error).is_some_and(|length| length > 3000), "{error:?}");
}

#[test]
fn no_name_or_reason_becomes_a_command() {
    let mut evil = machine();
    evil.name = "a || shell\nshell ${x} ; shell".into();
    evil.workflow.name = "b\nshell".into();
    for verdict in [Verdict::Disk, Verdict::Park, Verdict::Installer] {
        let text = script(&evil, &settings(), &verdict).unwrap().text;
        assert!(text.contains(" a shell shell $ {x} shell (52:54"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("shell")), "{text}");
    }
    let (history, site) = (History::default(), settings());
    assert!(boot(&evil, &history, &site).failure("c || d\nshell").contains(": c d shell\n"));
    evil.name = "\"; shell $(x)".into();
    let grub = boot(&evil, &history, &site).file(Kind::Grub, &Verdict::Disk).unwrap().unwrap().text;
    assert!(grub.starts_with("echo \"Ironhook: '; shell '(x) (52"), "{grub}");
}

#[test]
fn grub_words_are_quoted_and_a_quote_is_refused() {
    let (history, site) = (History::default(), settings());
    let machine = installer("", &["a=b;c$d"]);
    let text = boot(&machine, &history, &site).file(Kind::Grub, &Verdict::Installer).unwrap().unwrap().text;
    assert!(text.contains(" 'a=b;c$d'; then\n"), "{text}");
    let machine = installer("", &["a='b"]);
    assert!(boot(&machine, &history, &site).file(Kind::Grub, &Verdict::Installer).unwrap().is_err());
}

#[test]
fn a_machine_that_is_done_boots_its_disk_on_every_path() {
    let (history, site, machine) = (History::default(), settings(), machine());
    let boot = boot(&machine, &history, &site);
    for (kind, wanted) in [(Kind::Grub, "exit 1"), (Kind::GrubMedia, "exit 1"), (Kind::Pxelinux, "LOCALBOOT")] {
        assert!(boot.file(kind, &Verdict::Disk).unwrap().unwrap().text.contains(wanted), "{kind:?}");
    }
    for kind in [Kind::RaspberryLine, Kind::RaspberryConfig] {
        assert!(boot.file(kind, &Verdict::Disk).is_none(), "{kind:?}");
    }
    let ipxe = boot.ipxe(&Verdict::Disk).unwrap().unwrap().text;
    assert!(ipxe.contains("sanboot") && ipxe.contains("exit 1"));
}
