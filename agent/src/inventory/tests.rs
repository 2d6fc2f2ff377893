//! A machine as a tree of files, and this one.

use std::fs;
use std::os::unix::fs::symlink;

use proto::agent::AgentAttributes;

use super::*;

/// `path<TAB>content`, or `path -> target`; `\n` and `\x..` in the content.
fn tree(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for (path, target) in links {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    dir
}

const CPUINFO: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu vme\n\n\
processor\t: 1\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu vme\n\n\
processor\t: 2\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: 1\ncore id\t\t: 4\nflags\t\t: fpu vme\n";

fn machine() -> tempfile::TempDir {
    let files: &[(&str, &[u8])] = &[
        ("proc/cpuinfo", CPUINFO.as_bytes()),
        ("proc/meminfo", b"MemTotal:       16303428 kB\nMemFree: 1 kB\n"),
        ("sys/devices/system/memory/block_size_bytes", b"8000000\n"),
        ("sys/block/nvme0n1/size", b"468862128\n"),
        ("sys/block/nvme0n1/wwid", b"eui.00253858\n"),
        ("sys/block/nvme0n1/queue/physical_block_size", b"512\n"),
        ("sys/block/nvme0n1/queue/rotational", b"0\n"),
        ("sys/block/nvme0n1/device/model", b"SAMSUNG MZ  \n"),
        ("sys/block/nvme0n1/device/serial", b"S3X  \n"),
        ("sys/block/sda/size", b"3907029168\n"),
        ("sys/block/sda/queue/physical_block_size", b"4096\n"),
        ("sys/block/sda/queue/rotational", b"1\n"),
        ("sys/block/sda/device/vendor", b"SEAGATE \n"),
        ("sys/block/sda/device/model", b"ST2000NX\n"),
        ("sys/block/sda/device/wwid", b"naa.5000c500a1\n"),
        ("sys/block/sda/device/vpd_pg80", b"\x00\x80\x00\x08W460ABCD"),
        ("sys/block/vda/size", b"2048\n"),
        ("sys/block/vda/serial", b"lab0"),
        ("sys/block/vda/device/vendor", b"0x1af4\n"),
        ("sys/block/sr0/size", b"1\n"),
        ("sys/block/loop0/size", b"8\n"),
        ("sys/block/dm-0/size", b"8\n"),
        ("sys/block/mmcblk0boot0/size", b"8\n"),
        ("sys/devices/nic/vendor", b"0x8086\n"),
        ("sys/class/net/eth0/address", b"52:54:00:AA:00:01\n"),
        ("sys/class/net/eth0/speed", b"1000\n"),
        ("sys/class/net/eth1/address", b"52:54:00:aa:00:02\n"),
        ("sys/class/net/eth1/speed", b"-1\n"),
        ("sys/class/net/lo/address", b"00:00:00:00:00:00\n"),
        ("sys/bus/pci/devices/0000:00:02.0/vendor", b"0x1234\n"),
        ("sys/bus/pci/devices/0000:00:02.0/device", b"0x1111\n"),
        ("sys/bus/pci/devices/0000:00:02.0/class", b"0x030000\n"),
        ("sys/bus/pci/devices/0000:00:03.0/vendor", b"0x8086\n"),
        ("sys/bus/pci/devices/0000:00:03.0/device", b"0x10d3\n"),
        ("sys/bus/pci/devices/0000:00:03.0/class", b"0x020000\n"),
        ("sys/class/dmi/id/bios_vendor", b"SeaBIOS\n"),
        ("sys/class/dmi/id/bios_version", b"1.16\n"),
        ("sys/class/dmi/id/bios_date", b"04/01/2014\n"),
        ("sys/class/dmi/id/chassis_vendor", b"QEMU\n"),
        ("sys/class/dmi/id/chassis_serial", b"c1\n"),
        ("sys/class/dmi/id/board_vendor", b"bv\n"),
        ("sys/class/dmi/id/board_name", b"bn\n"),
        ("sys/class/dmi/id/board_version", b"1\n"),
        ("sys/class/dmi/id/board_serial", b"bs\n"),
        ("sys/class/dmi/id/product_name", b"Standard PC\n"),
        ("sys/class/dmi/id/sys_vendor", b"QEMU\n"),
        ("sys/class/dmi/id/product_serial", b"ps\n"),
    ];
    tree(
        files,
        &[
            ("sys/class/net/eth0/device", "../../../devices/nic"),
            ("sys/class/net/eth1/device", "../../../devices/nic"),
            ("sys/devices/nic/driver", "../../bus/pci/drivers/e1000e"),
            ("sys/bus/pci/devices/0000:00:03.0/driver", "../../../../bus/pci/drivers/e1000e"),
        ],
    )
}

#[test]
fn every_attribute_of_the_wire_is_read() {
    let dir = machine();
    let found = read(dir.path());
    assert_eq!((found.cpu.total_cores, found.cpu.total_threads, found.cpu.processors.len()), (2, 3, 2));
    let first = &found.cpu.processors[0];
    assert_eq!((first.cores, first.threads, first.model.as_str(), first.capabilities.len()), (1, 2, "Xeon", 2));
    assert_eq!((found.memory.total.as_str(), found.memory.usable.as_str()), ("16GB", "16GB"));
    let disks: Vec<String> = found
        .block
        .iter()
        .map(|d| {
            let fields = [
                &d.name,
                &d.controller_type,
                &d.drive_type,
                &d.size,
                &d.physical_block_size,
                &d.vendor,
                &d.model,
                &d.wwn,
                &d.serial_number,
            ];
            fields.map(String::as_str).join("|")
        })
        .collect();
    assert_eq!(
        disks,
        [
            "nvme0n1|NVMe|SSD|224GB|512B||SAMSUNG MZ|eui.00253858|S3X",
            "sda|SCSI|HDD|2TB|4KB|SEAGATE|ST2000NX|naa.5000c500a1|W460ABCD",
            "sr0|SCSI|ODD|512B|||||",
            "vda|virtio|SSD|1MB|||||lab0",
        ]
    );
    let ports: Vec<_> =
        found.network.iter().map(|n| [&n.name, &n.mac, &n.speed, &n.driver].map(String::as_str).join("|")).collect();
    assert_eq!(ports, ["eth0|52:54:00:aa:00:01|1000Mb/s|e1000e", "eth1|52:54:00:aa:00:02||e1000e"]);
    assert_eq!(
        (found.pci.len(), found.pci[1].class.as_str(), found.pci[1].driver.as_str()),
        (2, "Network controller", "e1000e")
    );
    assert_eq!((found.gpu.len(), found.gpu[0].vendor.as_str()), (1, "1234"));
    let wire = AgentAttributes::from(&found);
    assert_eq!(wire.block.len(), 4);
    let (chassis, bios) = (wire.chassis.unwrap(), wire.bios.unwrap());
    assert_eq!((chassis.serial.as_str(), chassis.vendor.as_str()), ("c1", "QEMU"));
    assert_eq!(
        (bios.vendor.as_str(), bios.version.as_str(), bios.release_date.as_str()),
        ("SeaBIOS", "1.16", "04/01/2014")
    );
    let (board, product) = (wire.baseboard.unwrap(), wire.product.unwrap());
    assert_eq!([board.vendor, board.product, board.version, board.serial_number], ["bv", "bn", "1", "bs"]);
    assert_eq!([product.name, product.vendor, product.serial_number], ["Standard PC", "QEMU", "ps"]);
}

#[test]
fn a_machine_without_anything_is_read_as_empty_and_this_one_has_a_processor() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path()), Inventory::default());
    let here = read(Path::new("/"));
    assert!(here.cpu.total_threads > 0 && !here.memory.total.is_empty(), "{here:?}");
}

#[test]
fn sizes_are_rounded_up_in_binary_units() {
    let all = [0, 1, 1023, 1024, 1025, 240_057_409_536, 2_000_398_934_016].map(size);
    assert_eq!(all, ["0B", "1B", "1023B", "1KB", "2KB", "224GB", "2TB"]);
}
