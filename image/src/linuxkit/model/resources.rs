//! Limits of a container: LinuxKit's keys in, the runtime specification's out. An unknown key is an error.

use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! optional {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Debug, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase", default)]
        pub struct $name { $($(#[$field_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$kind>,)* }
    };
}

optional! {
    /// All limits of a container.
    Resources {
        /// Devices that may be used.
        devices: Vec<DeviceRule>,
        /// Memory.
        memory: Memory,
        /// Processors.
        cpu: Cpu,
        /// Processes.
        pids: Pids,
        /// Block devices.
        #[serde(rename(deserialize = "blockio", serialize = "blockIO"))]
        block_io: BlockIo,
        /// Huge pages.
        hugepage_limits: Vec<Value>,
        /// Classes of packets.
        network: Network,
    }
}

optional! {
    /// A rule for devices.
    DeviceRule {
        /// Or forbid.
        allow: bool,
        /// `a`, `b` or `c`.
        #[serde(rename = "type")]
        kind: String,
        /// Major number.
        major: i64,
        /// Minor number.
        minor: i64,
        /// Of `rwm`.
        access: String,
    }
}

optional! {
    /// Memory, in bytes.
    Memory {
        /// At most.
        limit: i64,
        /// Aimed at.
        reservation: i64,
        /// With swap.
        swap: i64,
        /// Of the kernel.
        kernel: i64,
        /// Of the kernel's TCP.
        #[serde(rename = "kernelTCP")]
        kernel_tcp: i64,
        /// 0 to 100.
        swappiness: u64,
        /// Wait instead of kill.
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: bool,
    }
}

optional! {
    /// Processors.
    Cpu {
        /// Weight.
        shares: u64,
        /// Microseconds in a period.
        quota: i64,
        /// Microseconds.
        period: u64,
        /// Microseconds in a period.
        realtime_runtime: i64,
        /// Microseconds.
        realtime_period: u64,
        /// Which.
        cpus: String,
        /// Which memory nodes.
        mems: String,
    }
}

optional! {
    /// Processes.
    Pids {
        /// At most.
        limit: i64,
    }
}

optional! {
    /// Block devices; the lists are the runtime specification's.
    BlockIo {
        /// 10 to 1000.
        weight: u16,
        /// 10 to 1000.
        leaf_weight: u16,
        /// By device.
        weight_device: Vec<Value>,
        /// By device.
        throttle_read_bps_device: Vec<Value>,
        /// By device.
        throttle_write_bps_device: Vec<Value>,
        /// By device.
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<Value>,
        /// By device.
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<Value>,
    }
}

optional! {
    /// Classes of packets.
    Network {
        /// Class.
        #[serde(rename = "classID")]
        class_id: u32,
        /// By interface.
        priorities: Vec<Value>,
    }
}
