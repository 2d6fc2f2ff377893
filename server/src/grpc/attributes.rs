//! What a machine is, from the wire to JSON. Lenient: agents of 0.17 send numbers where later ones send texts, and an
//! attribute that cannot be read must not keep a machine from its work (wire reference §12.6).

use prost::Message;
use proto::agent::{AgentAttributes, Pci};
use serde_json::{Value, json};

use super::shape;

/// More than any machine has of them.
const MOST: usize = 1000;

/// With the wire's names; what cannot be read is left out, all of it if need be.
pub fn to_json(bytes: &[u8]) -> Value {
    let attributes = AgentAttributes::decode(bytes).or_else(|_| {
        // What holds the numbers of 0.17: memory and disks.
        AgentAttributes::decode(&*shape::without(bytes, &[2, 3]))
    });
    let AgentAttributes { cpu, memory, block, network, pci, gpu, chassis, bios, baseboard, product } =
        attributes.unwrap_or_default();
    json!({
        "cpu": cpu.map(|cpu| json!({
            "totalCores": cpu.total_cores,
            "totalThreads": cpu.total_threads,
            "processors": each(cpu.processors, |p| json!({
                "id": p.id, "cores": p.cores, "threads": p.threads, "vendor": p.vendor, "model": p.model,
                "capabilities": p.capabilities,
            })),
        })),
        "memory": memory.map(|m| json!({"total": m.total, "usable": m.usable})),
        "block": each(block, |b| json!({
            "name": b.name, "controllerType": b.controller_type, "driveType": b.drive_type, "size": b.size,
            "physicalBlockSize": b.physical_block_size, "vendor": b.vendor, "model": b.model, "wwn": b.wwn,
            "serialNumber": b.serial_number,
        })),
        "network": each(network, |n| json!({
            "name": n.name, "mac": n.mac, "speed": n.speed, "enabledCapabilities": n.enabled_capabilities,
        })),
        "pci": each(pci, device),
        "gpu": each(gpu, device),
        "chassis": chassis.map(|c| json!({"serial": c.serial, "vendor": c.vendor})),
        "bios": bios.map(|b| json!({"vendor": b.vendor, "version": b.version, "releaseDate": b.release_date})),
        "baseboard": baseboard.map(|b| json!({
            "vendor": b.vendor, "product": b.product, "version": b.version, "serialNumber": b.serial_number,
        })),
        "product": product.map(|p| json!({"name": p.name, "vendor": p.vendor, "serialNumber": p.serial_number})),
    })
}

fn device(pci: Pci) -> Value {
    json!({"vendor": pci.vendor, "product": pci.product, "class": pci.class, "driver": pci.driver})
}

fn each<T>(all: Vec<T>, show: impl FnMut(T) -> Value) -> Vec<Value> {
    all.into_iter().take(MOST).map(show).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::agent::{Chassis, Memory};

    use super::*;

    #[test]
    fn an_agent_of_0_17_loses_its_sizes_only() {
        // memory {1: varint, 2: varint}, as that agent sends it, and chassis {1: "s"}.
        let bytes = [&[0x12, 4, 0x08, 7, 0x10, 5][..], &[0x3a, 3, 0x0a, 1, b's']].concat();
        let json = to_json(&bytes);
        assert_eq!((&json["memory"], &json["chassis"]["serial"]), (&Value::Null, &json!("s")));
        let now = AgentAttributes {
            memory: Some(Memory { total: "32GB".into(), usable: "31GB".into() }),
            chassis: Some(Chassis { serial: "s".into(), vendor: "v".into() }),
            ..AgentAttributes::default()
        };
        assert_eq!(to_json(&now.encode_to_vec())["memory"]["total"], "32GB");
    }

    proptest! {
        #[test]
        fn anything_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(to_json(&bytes).is_object());
        }
    }
}
