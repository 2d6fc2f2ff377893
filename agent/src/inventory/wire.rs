//! The inventory as the newer protocol's agent attributes, field by field (wire reference §4.5).

use std::path::Path;

use prost::Message;
use proto::agent as wire;

use super::{Inventory, Pci};

/// What this machine is, as it travels.
pub fn encoded(root: &Path) -> Vec<u8> {
    wire::AgentAttributes::from(&super::read(root)).encode_to_vec()
}

impl From<&Inventory> for wire::AgentAttributes {
    fn from(it: &Inventory) -> Self {
        let it = it.clone();
        Self {
            cpu: Some(wire::Cpu {
                total_cores: it.cpu.total_cores,
                total_threads: it.cpu.total_threads,
                processors: it.cpu.processors.into_iter().map(processor).collect(),
            }),
            memory: Some(wire::Memory { total: it.memory.total, usable: it.memory.usable }),
            block: it.block.into_iter().map(block).collect(),
            network: it.network.into_iter().map(network).collect(),
            pci: it.pci.into_iter().map(pci).collect(),
            gpu: it.gpu.into_iter().map(pci).collect(),
            chassis: Some(wire::Chassis { serial: it.chassis.serial, vendor: it.chassis.vendor }),
            bios: Some(wire::Bios {
                vendor: it.bios.vendor,
                version: it.bios.version,
                release_date: it.bios.release_date,
            }),
            baseboard: Some(wire::Baseboard {
                vendor: it.baseboard.vendor,
                product: it.baseboard.product,
                version: it.baseboard.version,
                serial_number: it.baseboard.serial_number,
            }),
            product: Some(wire::Product {
                name: it.product.name,
                vendor: it.product.vendor,
                serial_number: it.product.serial_number,
            }),
        }
    }
}

fn processor(it: super::processor::Processor) -> wire::Processor {
    wire::Processor {
        id: it.id,
        cores: it.cores,
        threads: it.threads,
        vendor: it.vendor,
        model: it.model,
        capabilities: it.capabilities,
    }
}

fn block(it: super::Block) -> wire::Block {
    wire::Block {
        name: it.name,
        controller_type: it.controller_type,
        drive_type: it.drive_type,
        size: it.size,
        physical_block_size: it.physical_block_size,
        vendor: it.vendor,
        model: it.model,
        wwn: it.wwn,
        serial_number: it.serial_number,
    }
}

fn network(it: super::Network) -> wire::Network {
    wire::Network { name: it.name, mac: it.mac, speed: it.speed, enabled_capabilities: it.enabled_capabilities }
}

fn pci(it: Pci) -> wire::Pci {
    wire::Pci { vendor: it.vendor, product: it.product, class: it.class, driver: it.driver }
}
