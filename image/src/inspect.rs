//! What an initramfs holds, by component: for people who ask where the memory goes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use cpio::newc;

/// One line a component: entries, bytes unpacked, name; the largest first.
pub fn report(path: &Path) -> io::Result<String> {
    let mut archive: Box<dyn io::Read> = Box::new(BufReader::new(zstd::Decoder::new(File::open(path)?)?));
    let mut groups: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    loop {
        let reader = newc::Reader::new(archive)?;
        if reader.entry().is_trailer() {
            break;
        }
        let group = groups.entry(group(reader.entry().name())).or_default();
        group.0 += 1;
        group.1 += u64::from(reader.entry().file_size());
        archive = reader.finish()?;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|a, b| b.1.1.cmp(&a.1.1).then_with(|| a.0.cmp(&b.0)));
    let mut text = format!("{:>8} {:>12}  component\n", "entries", "bytes");
    for (name, (entries, bytes)) in groups {
        let _ = writeln!(text, "{entries:>8} {bytes:>12}  {name}");
    }
    Ok(text)
}

fn group(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["containers", section, name, ..] => format!("{section}/{name}"),
        ["usr", "lib", "modules", ..] => "kernel modules".into(),
        _ => "init".into(),
    }
}
