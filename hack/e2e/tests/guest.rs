//! The guest lab itself: status, output, disks and the kernel's modules are what a test inside relies on.

#![allow(clippy::unwrap_used)]

use e2e::guest::{Bus, Disk, Guest};
use e2e::lab::Places;

#[test]
#[ignore = "make test-full: a VM"]
fn a_guest_gives_exit_status_and_output_and_has_the_disks_and_modules_it_was_asked_for() {
    let script = "uname -r
for module in dm_flakey dm_log_writes dm_mod vfat xfs btrfs md_mod veth bridge; do modprobe $module || exit 2; done
for disk in nvme0n1 sda sdb vda; do cat /sys/block/$disk/queue/logical_block_size; done
cat /etc/given
exec sh -c 'exit 7'";
    let mut guest = Guest::new("self", &["sh", "-c", "sh /etc/script"]);
    guest.payload.text("/etc/script", script);
    guest.payload.text("/etc/given", "by the host\n");
    let mib = 1 << 20;
    guest.disks = vec![
        Disk::empty(Bus::Nvme, 64 * mib, 4096),
        Disk::empty(Bus::Scsi, 64 * mib, 512),
        Disk::empty(Bus::Sata, 64 * mib, 512),
        Disk::empty(Bus::Virtio, 64 * mib, 4096),
    ];
    let ended = guest.run(&Places::find().unwrap()).unwrap();
    assert_eq!(ended.status, 7, "{}", ended.output);
    let lines: Vec<&str> = ended.output.lines().collect();
    assert!(lines[0].starts_with("6."), "{lines:?}");
    assert_eq!(lines[1..], ["4096", "512", "512", "4096", "by the host"]);
}
