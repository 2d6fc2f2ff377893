//! Processors and memory, from `/proc/cpuinfo`, `/proc/meminfo` and the kernel's memory blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{Tree, size};

/// All processors.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Cores of all.
    pub total_cores: u32,
    /// Hardware threads of all.
    pub total_threads: u32,
    /// One each.
    pub processors: Vec<Processor>,
}

/// A processor, as it sits in its socket.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Processor {
    /// The number of its socket.
    pub id: u32,
    /// Cores.
    pub cores: u32,
    /// Hardware threads.
    pub threads: u32,
    /// `GenuineIntel`, ...
    pub vendor: String,
    /// Its name.
    pub model: String,
    /// The kernel's flags of it.
    pub capabilities: Vec<String>,
}

/// Its memory, as sizes for people.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What is built in.
    pub total: String,
    /// What the kernel can give away.
    pub usable: String,
}

pub(super) fn cpu(tree: &Tree) -> Cpu {
    let text = tree.text("proc/cpuinfo");
    let mut sockets: BTreeMap<u32, (BTreeSet<String>, Processor)> = BTreeMap::new();
    for thread in text.split("\n\n") {
        let fields: HashMap<&str, &str> = thread
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let Some(number) = fields.get("processor") else { continue };
        let field =
            |names: &[&str]| names.iter().find_map(|name| fields.get(name)).map_or("", |value| *value).to_owned();
        let id = fields.get("physical id").and_then(|id| id.parse().ok()).unwrap_or(0);
        let (cores, processor) = sockets.entry(id).or_default();
        // Machines without sockets in this file have a core per thread.
        cores.insert(fields.get("core id").unwrap_or(number).to_string());
        processor.threads += 1;
        processor.id = id;
        processor.vendor = field(&["vendor_id", "CPU implementer"]);
        processor.model = field(&["model name", "CPU part"]);
        processor.capabilities = field(&["flags", "Features"]).split_whitespace().map(str::to_owned).collect();
    }
    let count = |cores: &BTreeSet<String>| u32::try_from(cores.len()).unwrap_or(u32::MAX);
    let processors: Vec<Processor> =
        sockets.into_values().map(|(cores, processor)| Processor { cores: count(&cores), ..processor }).collect();
    Cpu {
        total_cores: processors.iter().map(|it| it.cores).sum(),
        total_threads: processors.iter().map(|it| it.threads).sum(),
        processors,
    }
}

pub(super) fn memory(tree: &Tree) -> Memory {
    let text = tree.text("proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    let usable = kib.unwrap_or(0) << 10;
    let blocks = "sys/devices/system/memory";
    let block = u64::from_str_radix(&tree.text(&format!("{blocks}/block_size_bytes")), 16).unwrap_or(0);
    let online = |name: &String| name.starts_with("memory") && tree.text(&format!("{blocks}/{name}/online")) == "1";
    let built_in = block.saturating_mul(tree.names(blocks).iter().filter(|name| online(name)).count() as u64);
    let shown = |bytes: u64| if bytes == 0 { String::new() } else { size(bytes) };
    Memory { total: shown(built_in.max(usable)), usable: shown(usable) }
}
