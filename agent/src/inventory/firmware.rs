//! What the firmware says of the machine, from `/sys/class/dmi/id`. Serial numbers are readable by root only.

use serde::Serialize;

use super::Tree;

/// The case.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chassis {
    /// Its serial number.
    pub serial: String,
    /// Its maker.
    pub vendor: String,
}

/// The firmware.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bios {
    /// Its maker.
    pub vendor: String,
    /// Its version.
    pub version: String,
    /// As it says it, month first.
    pub release_date: String,
}

/// The main board.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseboard {
    /// Its maker.
    pub vendor: String,
    /// Its name.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Its serial number.
    pub serial_number: String,
}

/// The machine as it was bought.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// Its name.
    pub name: String,
    /// Its maker.
    pub vendor: String,
    /// Its serial number.
    pub serial_number: String,
}

fn dmi(tree: &Tree, name: &str) -> String {
    tree.text(&format!("sys/class/dmi/id/{name}"))
}

pub(super) fn chassis(tree: &Tree) -> Chassis {
    Chassis { serial: dmi(tree, "chassis_serial"), vendor: dmi(tree, "chassis_vendor") }
}

pub(super) fn bios(tree: &Tree) -> Bios {
    Bios { vendor: dmi(tree, "bios_vendor"), version: dmi(tree, "bios_version"), release_date: dmi(tree, "bios_date") }
}

pub(super) fn baseboard(tree: &Tree) -> Baseboard {
    Baseboard {
        vendor: dmi(tree, "board_vendor"),
        product: dmi(tree, "board_name"),
        version: dmi(tree, "board_version"),
        serial_number: dmi(tree, "board_serial"),
    }
}

pub(super) fn product(tree: &Tree) -> Product {
    Product {
        name: dmi(tree, "product_name"),
        vendor: dmi(tree, "sys_vendor"),
        serial_number: dmi(tree, "product_serial"),
    }
}
