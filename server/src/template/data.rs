//! What a template sees: the keys of `hardwareMap`, `.Hardware` with Go's field names, `.hardware` with JSON's
//! (wire reference §6.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{TemplateError, Value, to_value};
use serde_json::{Map, Value as Json, json};

/// Go's names of fields where they are not the JSON name with a capital.
const GO_NAMES: &[(&str, &str)] = &[
    ("dhcp", "DHCP"),
    ("mac", "MAC"),
    ("ip", "IP"),
    ("uefi", "UEFI"),
    ("vlan_id", "VLANID"),
    ("disableDhcp", "DisableDHCP"),
    ("ipxe", "IPXE"),
    ("osie", "OSIE"),
    ("url", "URL"),
    ("baseURL", "BaseURL"),
    ("id", "ID"),
    ("ssh_keys", "SSHKeys"),
    ("ipxe_script_url", "IpxeScriptURL"),
    ("uid", "UID"),
    ("gid", "GID"),
];

/// Fields that Go's structs always have.
fn empty_interface() -> Json {
    json!({
        "Netboot": {
            "AllowPXE": false, "AllowWorkflow": false,
            "IPXE": {"URL": "", "Contents": ""}, "OSIE": {"BaseURL": "", "Kernel": "", "Initrd": ""},
        },
        "DHCP": {
            "MAC": "", "Hostname": "", "LeaseTime": 0, "NameServers": [], "TimeServers": [], "Arch": "",
            "UEFI": false, "IfaceName": "", "VLANID": "", "IP": {"Address": "", "Netmask": "", "Gateway": "", "Family": 0},
        },
        "DisableDHCP": false,
    })
}

/// `.Hardware.Metadata` as Go's structs have it: what is not written is empty, a part that is not there at all is nil.
fn metadata(written: &Json) -> Json {
    let mut all = go(written);
    if !all.is_object() {
        all = json!({});
    }
    fill(
        &mut all,
        "",
        json!({
            "State": "", "BondingMode": 0, "Manufacturer": null, "Instance": null, "Custom": null, "Facility": null,
        }),
    );
    fill(&mut all, "/Manufacturer", json!({"ID": "", "Slug": ""}));
    fill(&mut all, "/Facility", json!({"PlanSlug": "", "PlanVersionSlug": "", "FacilityCode": ""}));
    fill(&mut all, "/Custom", json!({"PreinstalledOperatingSystemVersion": null, "PrivateSubnets": []}));
    let system = json!({"Slug": "", "Distro": "", "Version": "", "ImageTag": "", "OsSlug": ""});
    fill(&mut all, "/Custom/PreinstalledOperatingSystemVersion", system.clone());
    fill(
        &mut all,
        "/Instance",
        json!({
            "ID": "", "State": "", "Hostname": "", "AllowPxe": false, "Rescue": false, "OperatingSystem": null,
            "AlwaysPxe": false, "IpxeScriptURL": "", "Ips": [], "Userdata": "", "CryptedRootPassword": "", "Tags": [],
            "Storage": null, "SSHKeys": [], "NetworkReady": false,
        }),
    );
    fill(&mut all, "/Instance/OperatingSystem", system);
    fill(&mut all, "/Instance/Storage", json!({"Disks": [], "Raid": [], "Filesystems": []}));
    for ip in all.pointer_mut("/Instance/Ips").and_then(Json::as_array_mut).into_iter().flatten() {
        fill(
            ip,
            "",
            json!({"Address": "", "Netmask": "", "Gateway": "", "Family": 0, "Public": false, "Management": false}),
        );
    }
    all
}

/// Puts the fields under what is written of the struct at this place, if anything is.
fn fill(all: &mut Json, at: &str, fields: Json) {
    if let Some(slot) = all.pointer_mut(at).filter(|slot| slot.is_object()) {
        let written = std::mem::replace(slot, fields);
        crate::objects::overlay(slot, written);
    }
}

/// The data of one workflow; `hardware` is the whole object.
pub fn data(map: &BTreeMap<String, String>, hardware: Option<&Json>) -> Result<Value, TemplateError> {
    let mut all: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    if let Some(hardware) = hardware {
        all.insert("Hardware".into(), to_value(&contract(&hardware["spec"]))?);
        all.insert("hardware".into(), to_value(hardware)?);
    }
    all.extend(map.iter().map(|(key, value)| (key.as_str().into(), Value::String(value.as_str().into()))));
    Ok(Value::Map(Arc::new(all)))
}

fn contract(spec: &Json) -> Json {
    let list = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
    let disks: Vec<Json> = list("disks").iter().map(|disk| disk["device"].clone()).collect();
    let interfaces: Vec<Json> = list("interfaces")
        .iter()
        .map(|interface| {
            let mut whole = empty_interface();
            crate::objects::overlay(&mut whole, go(interface));
            whole
        })
        .collect();
    let text = |key: &str| spec[key].as_str().unwrap_or_default();
    json!({
        "Disks": disks,
        "Interfaces": interfaces,
        "UserData": text("userData"),
        "VendorData": text("vendorData"),
        "Metadata": metadata(&spec["metadata"]),
    })
}

fn go(json: &Json) -> Json {
    match json {
        // Go leaves a field as it is when it reads null into it.
        Json::Object(map) => {
            let given = map.iter().filter(|(_, value)| !value.is_null());
            Json::Object(given.map(|(key, value)| (go_name(key), go(value))).collect::<Map<_, _>>())
        }
        Json::Array(list) => Json::Array(list.iter().map(go).collect()),
        other => other.clone(),
    }
}

fn go_name(name: &str) -> String {
    if let Some((_, go)) = GO_NAMES.iter().find(|(json, _)| *json == name) {
        return (*go).to_owned();
    }
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    name.split('_').map(capital).collect()
}
