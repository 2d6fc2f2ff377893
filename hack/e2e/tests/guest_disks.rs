//! `image-write` where only a kernel of our own will do: disks of every kind, a disk that fails in the middle, and a
//! power cut at every flush of a whole run.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::guest::{Bus, Disk, Guest};
use e2e::lab::Places;

const MIB: usize = 1 << 20;
const SIZE: usize = 24 * MIB;

/// A GPT with one ext4, made by the tools of the host.
fn image(dir: &Path, sector: u32) -> PathBuf {
    let path = dir.join(format!("os-{sector}.raw"));
    let part = dir.join("part");
    let tool = |name: &str, args: &[&str]| {
        let output = Command::new(name).args(args).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let noise: Vec<u8> = (0..12 * MIB as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    fs::create_dir_all(dir.join("tree")).unwrap();
    fs::write(dir.join("tree/noise"), noise).unwrap();
    fs::write(&part, vec![0; SIZE - 2 * MIB]).unwrap();
    let (tree, part_name) = (dir.join("tree"), part.to_str().unwrap().to_owned());
    tool("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096", "-d", tree.to_str().unwrap(), &part_name]);
    let mut bytes = vec![0; SIZE];
    bytes[MIB..SIZE - MIB].copy_from_slice(&fs::read(part).unwrap());
    fs::write(&path, bytes).unwrap();
    let table = format!(
        "label: gpt\nsector-size: {sector}\nstart={}, size={}\n",
        MIB as u32 / sector,
        (SIZE - 2 * MIB) as u32 / sector
    );
    let file = path.to_str().unwrap();
    let script = format!("printf '{table}' | sfdisk --quiet --sector-size {sector} {file}");
    tool("sh", &["-c", &script]);
    path
}

const SCRIPT: &str = r#"set -e
modprobe dm_mod; modprobe dm_log_writes; modprobe ext4
write() { DEST_DISK=$1 IMG_URL=$2 IMG_CHECKSUM=none WAIT_DEVICE_SECONDS=20 ironhook-actions image-write; }
for disk in nvme0n1 sda sdb; do echo "== $disk"; GROW_FS=true VERIFY=full write /dev/$disk /os-512.raw; done
echo "== vda"; GROW_FS=true VERIFY=full write /dev/vda /os-4096.raw

echo "== bad"
sectors=$(cat /sys/block/sda/size)
good=$((24 * 2048 * 7 / 10))
printf '0 %s linear /dev/sda 0\n%s %s error\n%s %s linear /dev/sda %s\n' $good $good 8 $((good + 8)) $((sectors - good - 8)) $((good + 8)) >/table
dmsetup create bad /table
echo "bad sector: $good"
if write /dev/mapper/bad /os-512.raw; then echo "no error"; exit 3; fi
dd if=/dev/mapper/bad bs=1M count=1 iflag=direct 2>/dev/null | tr -d '\0' | wc -c | sed 's/^/head: /'

echo "== power"
dmsetup create log --table "0 $(cat /sys/block/vdb/size) log-writes /dev/vdb /dev/vdc"
write /dev/mapper/log /os-512.raw
dmsetup message log 0 mark done
dmsetup remove log
sync
"#;

#[test]
#[ignore = "make test-full: a VM"]
fn every_kind_of_disk_a_bad_sector_and_a_power_cut_at_every_flush() {
    let places = Places::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let raw = image(dir.path(), 512);
    let mut guest = Guest::new("disks", &["sh", "/etc/script"]);
    guest.payload.text("/etc/script", SCRIPT);
    guest.payload.file(&raw, "/os-512.raw");
    guest.payload.file(&image(dir.path(), 4096), "/os-4096.raw");
    guest.payload.program("dmsetup").unwrap();
    let bin = std::env::current_exe().unwrap();
    let bin = bin.parent().and_then(Path::parent).unwrap().join("ironhook-actions");
    guest.payload.program(bin.to_str().unwrap()).unwrap();
    let (disk, log) = (dir.path().join("vdb"), dir.path().join("vdc"));
    fs::write(&disk, vec![0xaa; 32 * MIB]).unwrap();
    fs::write(&log, vec![0; 160 * MIB]).unwrap();
    let mib = MIB as u64;
    guest.disks = vec![
        Disk::empty(Bus::Nvme, 48 * mib, 512),
        Disk::empty(Bus::Scsi, 48 * mib, 512),
        Disk::empty(Bus::Sata, 48 * mib, 512),
        Disk::empty(Bus::Virtio, 48 * mib, 4096),
        Disk::file(Bus::Virtio, &disk, 512),
        Disk::file(Bus::Virtio, &log, 512),
    ];
    let ended = guest.run(&places).unwrap();
    assert_eq!(ended.status, 0, "{}", ended.output);
    let part = |name: &str| ended.output.split(&format!("== {name}\n")).nth(1).unwrap().split("== ").next().unwrap();
    for disk in ["nvme0n1", "sda", "sdb", "vda"] {
        assert!(part(disk).contains("the ext4 of /dev/"), "{}", ended.output);
    }
    let bad = part("bad");
    let sector = bad.split("bad sector: ").nth(1).unwrap().lines().next().unwrap();
    assert!(bad.contains(&format!("failed: disk_io: cannot write LBA {sector} ")), "{bad}");
    assert!(bad.contains("head: 0"), "the head is not blank: {bad}");

    let image = fs::read(raw).unwrap();
    let flushes = replay(&log, &image);
    assert!(flushes > 4, "only {flushes} flushes");
}

/// Plays the log of all writes over what was on the disk before; at each flush, nothing boots unless all of it is there.
fn replay(log: &Path, image: &[u8]) -> usize {
    const FLUSH: u64 = 1;
    const FUA: u64 = 2;
    const DISCARD: u64 = 4;
    const MARK: u64 = 8;
    let file = fs::File::open(log).unwrap();
    let long = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut head = [0; 512];
    file.read_exact_at(&mut head, 0).unwrap();
    assert_eq!(long(&head, 0), 0x006a_7366_7773_6872, "no log of dm-log-writes");
    let (entries, mut at) = (long(&head, 16), 512);
    let mut disk = vec![0xaa; 32 * MIB];
    let (mut flushes, mut done, mut booted) = (0, false, 0);
    for _ in 0..entries {
        let mut entry = [0; 512];
        file.read_exact_at(&mut entry, at).unwrap();
        let (sector, count, flags) = (long(&entry, 0), long(&entry, 8), long(&entry, 16));
        at += 512;
        let (start, len) = (sector as usize * 512, count as usize * 512);
        if flags & MARK != 0 {
            // Its text is in the same sector.
            done = true;
        }
        if flags & (FLUSH | FUA) != 0 {
            flushes += 1;
            booted += usize::from(is_whole_or_blank(&disk, image));
        }
        if flags & DISCARD != 0 {
            disk[start..start + len].fill(0x55);
        } else if count > 0 {
            file.read_exact_at(&mut disk[start..start + len], at).unwrap();
            at += len as u64;
        }
    }
    assert!(done, "the log ends before the program did");
    assert!(is_whole_or_blank(&disk, image), "the end is not the whole image");
    assert!(booted > 0, "no flush came after the head");
    flushes
}

/// Whether something is there that boots; then it has to be the whole image.
fn is_whole_or_blank(disk: &[u8], image: &[u8]) -> bool {
    let boots = disk[510..512] == [0x55, 0xaa] || disk[512..520] == *b"EFI PART";
    assert!(!boots || disk[MIB..SIZE - MIB] == image[MIB..SIZE - MIB], "a head before a body that is not whole");
    boots
}
