//! The actions where only a kernel of our own will do: disks of every kind, a disk that fails in the middle, a power cut
//! at every flush of a whole run, disks in use by file systems, swap, arrays and mappings, and both executors.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::guest::{Bus, Disk, Flavour, Guest};
use e2e::lab::Places;
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::LINUX_FS;

const MIB: usize = 1 << 20;
const SIZE: usize = 24 * MIB;

/// A GPT for sectors of this size, with one ext4.
fn image(dir: &Path, sector: usize) -> PathBuf {
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
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let bytes_of = if sector == 512 { LogicalBlockSize::Lb512 } else { LogicalBlockSize::Lb4096 };
    let lba = |bytes: usize| (bytes / sector) as u64;
    let mut disk = GptConfig::new().writable(true).logical_block_size(bytes_of).create_from_device(file, None).unwrap();
    disk.add_partition_at("root", 1, lba(MIB), lba(SIZE - 2 * MIB), LINUX_FS, 0).unwrap();
    let mut file = disk.write().unwrap();
    ProtectiveMBR::with_lb_size(lba(SIZE) as u32 - 1).overwrite_lba0(&mut file).unwrap();
    path
}

/// A guest that runs a script and has the actions' program.
fn guest(name: &str, script: &str, places: &Places) -> Guest {
    let mut guest = Guest::new(name, &["sh", "/etc/script"]);
    guest.payload.text("/etc/script", script);
    guest.payload.program(places.programs.join("ironhook-actions").to_str().unwrap()).unwrap();
    guest
}

/// What a script wrote after a line `== name`.
fn part<'a>(output: &'a str, name: &str) -> &'a str {
    output
        .split(&format!("== {name}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("no {name} in {output}"))
        .split("== ")
        .next()
        .unwrap()
}

const SCRIPT: &str = r#"set -e
export DM_DISABLE_UDEV=1
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
    let mut guest = guest("disks", SCRIPT, &places);
    guest.payload.file(&raw, "/os-512.raw");
    guest.payload.file(&image(dir.path(), 4096), "/os-4096.raw");
    guest.payload.program("dmsetup").unwrap();
    let (disk, log) = (dir.path().join("vdb"), dir.path().join("vdc"));
    // Another system, which may boot as long as it is whole.
    let old = older(&fs::read(&raw).unwrap());
    fs::write(&disk, &old).unwrap();
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
    let part = |name: &str| part(&ended.output, name);
    for disk in ["nvme0n1", "sda", "sdb", "vda"] {
        assert!(part(disk).contains("the ext4 of /dev/"), "{}", ended.output);
    }
    let bad = part("bad");
    let sector = bad.split("bad sector: ").nth(1).unwrap().lines().next().unwrap();
    assert!(bad.contains(&format!("failed: disk_io: cannot write LBA {sector} ")), "{bad}");
    assert!(bad.contains("head: 0"), "the head is not blank: {bad}");

    let image = fs::read(raw).unwrap();
    let (writes, flushes) = replay(&log, &old, &image);
    println!("{writes} writes, {flushes} flushes");
    // Blank ends, body, all but the first sectors, those.
    assert!(flushes >= 4 && writes > flushes, "only {flushes} flushes of {writes} writes");
}

/// The same table before another body, on a larger disk.
fn older(image: &[u8]) -> Vec<u8> {
    let mut disk = image.to_vec();
    disk[MIB..SIZE - MIB].iter_mut().for_each(|byte| *byte ^= 0x5a);
    disk.resize(32 * MIB, 0xaa);
    disk
}

/// Plays the log of all writes over what was on the disk before; after each of them, and so at each flush, what boots is
/// the old system or the new one, and whole. How many writes and flushes there were.
fn replay(log: &Path, old: &[u8], image: &[u8]) -> (usize, usize) {
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
    let mut disk = old.to_vec();
    let (mut writes, mut flushes, mut done, mut last) = (0, 0, false, Boots::Old);
    for _ in 0..entries {
        let mut entry = [0; 512];
        file.read_exact_at(&mut entry, at).unwrap();
        let (sector, count, flags) = (long(&entry, 0), long(&entry, 8), long(&entry, 16));
        at += 512;
        let (start, len) = (sector as usize * 512, count as usize * 512);
        // The text of a mark is in the same sector.
        done |= flags & MARK != 0;
        flushes += usize::from(flags & (FLUSH | FUA) != 0);
        if flags & DISCARD != 0 {
            disk[start..start + len].fill(0x55);
        } else if count > 0 {
            file.read_exact_at(&mut disk[start..start + len], at).unwrap();
            at += len as u64;
            writes += 1;
        }
        let boots = boots(&disk, old, image);
        // Old, nothing, new: never back.
        assert!(boots >= last, "after {writes} writes: {boots:?} after {last:?}");
        last = boots;
    }
    assert!(done, "the log ends before the program did");
    assert_eq!(last, Boots::New, "the end is not the whole image");
    (writes, flushes)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Boots {
    Old,
    Nothing,
    New,
}

/// What boots, which has to be whole.
fn boots(disk: &[u8], old: &[u8], image: &[u8]) -> Boots {
    let is_head = disk[510..512] == [0x55, 0xaa] || disk[512..520] == *b"EFI PART";
    let body = &disk[MIB..SIZE - MIB];
    match is_head {
        false => Boots::Nothing,
        true if *body == old[MIB..SIZE - MIB] => Boots::Old,
        true if *body == image[MIB..SIZE - MIB] => Boots::New,
        true => panic!("a head before a body that is not whole"),
    }
}

/// A mounted partition with another mount below it, a swap area, and an array under a mapping that is mounted too.
const IN_USE: &str = r#"set -e
export DM_DISABLE_UDEV=1
modprobe dm_mod; modprobe raid1; modprobe ext4
DEST_DISK=/dev/vda PARTITIONS='[{"label":"a","size":"24MiB","type":"linux"},{"label":"b","size":"8MiB","type":"swap"},{"label":"c","size":"rest","type":"linux"}]' ironhook-actions disk-partition
prepare() {
  mke2fs -q -F /dev/vda1; mkdir -p /mnt; mount /dev/vda1 /mnt; mkdir /mnt/below /mnt/deep; mount -t tmpfs none /mnt/below
}
prepare
mkswap /dev/vda2; swapon /dev/vda2
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 /dev/vda3 missing
dmsetup create top --table "0 $(cat /sys/block/md0/size) linear /dev/md0 0"
mke2fs -q -F /dev/mapper/top; mount /dev/mapper/top /mnt/deep
write() { DEST_DISK=${1:-/dev/vda} IMG_URL=/os-512.raw IMG_CHECKSUM=none WAIT_DEVICE_SECONDS=1 ironhook-actions image-write; }
in_use() { grep -c -e ' /mnt' /proc/mounts; grep -c vda2 /proc/swaps; grep -c md0 /proc/mdstat; dmsetup ls; }
echo "== refused"; write || true
echo "== chosen"; write 'size<1TB' || true
echo "== plan"; FORCE=true DRY_RUN=true write; in_use
echo "== forced"; FORCE=true write
echo "== after"; in_use || true
test "$(dd if=/dev/vda bs=1M skip=1 count=22 2>/dev/null | sha256sum)" = "$(dd if=/os-512.raw bs=1M skip=1 count=22 2>/dev/null | sha256sum)" && echo "the image is there"
mount /dev/vda1 /mnt
sleep 1000 </mnt/noise &
holder=$!
echo "== busy"; FORCE=true write || true
kill $holder; wait $holder || true; umount /mnt || umount -l /mnt
echo "== end"; mount /dev/vda1 /mnt && echo "still there: $(ls /mnt)"
"#;

#[test]
#[ignore = "make test-full: a VM, mdadm"]
fn what_uses_a_disk_is_named_and_with_force_taken_down() {
    let places = Places::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut guest = guest("force", IN_USE, &places);
    guest.payload.file(&image(dir.path(), 512), "/os-512.raw");
    for tool in ["dmsetup", "mdadm", "mke2fs"] {
        guest.payload.program(tool).unwrap();
    }
    guest.disks = vec![Disk::empty(Bus::Virtio, 96 * MIB as u64, 512)];
    let ended = guest.run(&places).unwrap();
    assert_eq!(ended.status, 0, "{}", ended.output);
    let part = |name: &str| part(&ended.output, name);
    assert!(part("refused").contains("failed: disk_busy: refusing to write to /dev/vda: vda1 is mounted at /mnt"));
    assert!(part("chosen").contains("vda1 is mounted at /mnt"), "{}", part("chosen"));
    let plan = part("plan");
    let steps = [
        "unmount /mnt/deep",
        "unmount /mnt/below",
        "unmount /mnt\n",
        "end swapping to vda2",
        "close dm-0 (top)",
        "stop md0",
    ];
    let places_of: Vec<_> =
        steps.iter().map(|step| plan.find(step).unwrap_or_else(|| panic!("no {step} in {plan}"))).collect();
    assert!(places_of.is_sorted(), "{plan}");
    assert!(plan.contains("3\n1\n1\ntop"), "a dry run took something down: {plan}");
    assert!(steps.iter().all(|step| part("forced").contains(&format!("done: {step}"))), "{}", part("forced"));
    assert!(part("after").starts_with("0\n0\n0\n"), "{}", part("after"));
    assert!(part("after").contains("the image is there"), "{}", part("after"));
    assert!(part("busy").contains("failed: disk_busy: cannot unmount /mnt"), "{}", part("busy"));
    assert!(part("end").contains("still there:") && part("end").contains("noise"), "{}", part("end"));
}

/// Files that both services see lie in /worker.
const BOTH: &str = r#"set -e
modprobe ext4
i=0
while ! curl -sf --unix-socket /run/docker/docker.sock http://d/_ping >/dev/null; do i=$((i+1)); test $i -lt 1200; sleep 0.5; done
curl -sf --unix-socket /run/docker/docker.sock -X POST -H 'Content-Type: application/x-tar' --data-binary @/images.tar http://d/images/load
cp /os-512.raw /worker/os.raw
mkdir -p /tree/hello /mnt; echo from an archive >/tree/hello/greeting; chown 12:34 /tree/hello/greeting
tar -C /tree -cf /worker/tree.tar hello
for executor in docker crun; do
  disk=/dev/vda; test $executor = docker || disk=/dev/vdb
  sed "s,@DISK@,$disk,g; s,@NAME@,$executor,g" /etc/workflow.yaml >/tmp/workflow.yaml
  echo "== $executor"
  ironhook-agent run /tmp/workflow.yaml --executor=$executor --images=/images --results=/tmp/r 2>&1 || true
  echo "RESULT $(tr -d '\n' </tmp/r)"; rm /tmp/r
  cmp $disk /worker/$executor.img && echo "the capture is the disk"
  mount ${disk}1 /mnt; cat /mnt/hello/greeting; stat -c '%u:%g' /mnt/hello/greeting; cat /mnt/hello/note; stat -c '%u:%g' /mnt/hello/note; stat -f -c 'blocks %b of %S' /mnt; umount /mnt
done
"#;

/// Every action, in the order in which a machine meets them.
const ACTIONS: [&str; 7] =
    ["disk-wipe", "disk-partition", "image-write", "archive-extract", "file-write", "disk-capture", "boot"];

/// One disk from its wipe to the capture; image-write has a /dev of its container's own.
fn workflow() -> String {
    let action = |name: &str, volumes: &[&str], env: serde_json::Value| {
        let image = format!("ironhook/{name}:latest");
        serde_json::json!({"name": name, "image": image, "timeout": 300, "volumes": volumes, "environment": env})
    };
    let write = serde_json::json!({"IMG_URL": "/worker/os.raw", "DEST_DISK": "@DISK@", "IMG_CHECKSUM": "none", "GROW_FS": "true", "VERIFY": "full"});
    let extract =
        serde_json::json!({"ARCHIVE_URL": "/worker/tree.tar", "ARCHIVE_CHECKSUM": "none", "DEST_DISK": "@DISK@1"});
    let file = serde_json::json!({"DEST_DISK": "@DISK@1", "DEST_PATH": "/hello/note", "CONTENTS": "from a file\n", "UID": "56"});
    let capture = serde_json::json!({"SOURCE_DISK": "@DISK@", "DEST_URL": "/worker/@NAME@.img"});
    let disk = serde_json::json!({"DEST_DISK": "@DISK@"});
    let table = serde_json::json!({"DEST_DISK": "@DISK@", "PARTITIONS": r#"[{"label": "data", "size": "16MiB", "type": "linux"}]"#});
    let actions = [
        action("disk-wipe", &["/dev:/dev"], disk),
        action("disk-partition", &["/dev:/dev"], table),
        action("image-write", &["/worker:/worker"], write),
        action("archive-extract", &["/worker:/worker", "/dev:/dev"], extract),
        action("file-write", &["/dev:/dev"], file),
        action("disk-capture", &["/worker:/worker", "/dev:/dev"], capture),
        action("boot", &[], serde_json::json!({"BOOT_MODE": "poweroff"})),
    ];
    serde_json::json!({"tasks": [{"name": "t", "actions": actions}]}).to_string()
}

/// The actions' images, for crun as a layout and for the engine as an archive.
fn add_images(guest: &mut Guest, places: &Places, archive: &Path) {
    let mut tool = Command::new(places.programs.join("ironhook-image"));
    tool.current_dir(&places.repo).args(["component", "--programs", places.programs.to_str().unwrap()]);
    assert!(tool.arg("linuxkit/components/actions").status().unwrap().success());
    let store = places.out.join("cache/oci");
    let json = |path: &Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let mut index = json(&store.join("index.json"));
    let named = |entry: &serde_json::Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default().to_owned()
    };
    let wanted = ACTIONS.map(|name| format!("docker.io/ironhook/{name}:latest"));
    index["manifests"].as_array_mut().unwrap().retain(|entry| wanted.contains(&named(entry)));
    let mut tar = tar::Builder::new(fs::File::create(archive).unwrap());
    let mut images = Vec::new();
    let mut added = std::collections::BTreeSet::new();
    let mut add = |guest: &mut Guest, digest: &serde_json::Value| {
        let name = format!("blobs/sha256/{}", digest.as_str().unwrap().trim_start_matches("sha256:"));
        // They share a layer.
        if added.insert(name.clone()) {
            guest.payload.file(&store.join(&name), &format!("/images/{name}"));
            tar.append_path_with_name(store.join(&name), &name).unwrap();
        }
        name
    };
    for entry in index["manifests"].as_array().unwrap() {
        let machines = json(&store.join(add(guest, &entry["digest"])));
        let manifest = json(&store.join(add(guest, &machines["manifests"][0]["digest"])));
        let config = add(guest, &manifest["config"]["digest"]);
        let layers: Vec<_> =
            manifest["layers"].as_array().unwrap().iter().map(|layer| add(guest, &layer["digest"])).collect();
        let tags = [named(entry).trim_start_matches("docker.io/").to_owned()];
        images.push(serde_json::json!({"Config": config, "RepoTags": tags, "Layers": layers}));
    }
    assert_eq!(images.len(), ACTIONS.len(), "{index}");
    guest.payload.text("/images/index.json", &index.to_string());
    guest.payload.file(&store.join("oci-layout"), "/images/oci-layout");
    let text = serde_json::Value::from(images).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut { header }, "manifest.json", text.as_bytes()).unwrap();
    tar.finish().unwrap();
}

#[test]
#[ignore = "make test-full: a VM"]
fn every_action_under_docker_and_crun() {
    let places = Places::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut guest = guest("executors", BOTH, &places);
    guest.flavour = Flavour::Engine;
    guest.memory_mib = 2048;
    guest.payload.file(&image(dir.path(), 512), "/os-512.raw");
    guest.payload.text("/etc/workflow.yaml", &workflow());
    guest.payload.file(&places.programs.join("ironhook-agent"), "/usr/bin/ironhook-agent");
    guest.payload.program("curl").unwrap();
    guest.payload.program("crun").unwrap();
    let archive = dir.path().join("images.tar");
    add_images(&mut guest, &places, &archive);
    guest.payload.file(&archive, "/images.tar");
    let disk = || Disk::empty(Bus::Virtio, 64 * MIB as u64, 512);
    guest.disks = vec![disk(), disk()];
    let ended = guest.run(&places).unwrap();
    assert_eq!(ended.status, 0, "{}", ended.output);
    for executor in ["docker", "crun"] {
        let said = part(&ended.output, executor);
        let result = said.lines().find_map(|line| line.strip_prefix("RESULT ")).unwrap();
        let result: serde_json::Value = serde_json::from_str(result).unwrap();
        let actions = result["actions"].as_array().unwrap();
        assert_eq!(actions.iter().map(|action| action["action"].as_str().unwrap()).collect::<Vec<_>>(), ACTIONS);
        assert!(actions.iter().all(|action| action["failure"].is_null()), "{result:#}");
        assert_eq!(actions.last().unwrap()["handover"], "poweroff", "{result:#}");
        assert!(said.contains("from a file\n56:0\n"), "{said}");
        assert!(said.contains("from an archive\n12:34\n") && said.contains("the capture is the disk"), "{said}");
        let blocks: u64 = said.split("blocks ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(blocks * 4096 > 50 * MIB as u64, "{executor}: the ext4 did not grow: {blocks} blocks");
    }
}
