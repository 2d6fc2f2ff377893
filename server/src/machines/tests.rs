//! What a Hardware becomes for netboot: each thing that its instance can say, and what the interface's own word is worth.

use std::collections::BTreeMap;

use netboot::{Custom, Machine};
use serde_json::{Value, json};

use super::Record;
use crate::objects::hardware::HardwareSpec;
use crate::objects::{Key, Kind};

const MAC: &str = "52:54:00:aa:00:01";

/// As netboot sees the first interface of a Hardware with this instance and this `dhcp` beside its MAC.
fn machine(instance: &Value, dhcp: &Value, interfaces: usize) -> Machine {
    let mut first = json!({"dhcp": {"mac": MAC}, "netboot": {"ipxe": {"url": "http://10.0.0.9/own.ipxe"}}});
    first["dhcp"].as_object_mut().unwrap().extend(dhcp.as_object().unwrap().clone());
    let mut all = vec![first];
    all.resize(interfaces, json!({"dhcp": {"mac": "52:54:00:aa:00:02"}}));
    let spec: HardwareSpec =
        serde_json::from_value(json!({"metadata": {"instance": instance}, "interfaces": all})).unwrap();
    let key = Key::new(Kind::Hardware, "default", "m1");
    let record = Record { key, spec, waiting: None, ended: None, labels: BTreeMap::new() };
    let interface = &record.spec.interfaces[0];
    record.machine(MAC.parse().unwrap(), interface, interface.dhcp.as_ref().unwrap())
}

#[test]
fn a_machine_without_an_address_of_its_own_leases_its_instances() {
    let instance = json!({"hostname": "tenant", "ips": [
        {"address": "2001:db8::9"},
        {"address": "10.9.0.7", "netmask": "255.255.0.0", "gateway": "10.9.0.1"},
        {"address": "10.9.0.8"},
    ]});
    let lease = machine(&instance, &json!({"hostname": "rack-3"}), 1).lease.unwrap();
    let expected = ("10.9.0.7", "255.255.0.0", Some("10.9.0.1".to_owned()), Some("tenant"));
    let said = (lease.address.to_string(), lease.netmask.to_string());
    assert_eq!(
        (said.0.as_str(), said.1.as_str(), lease.gateway.map(|it| it.to_string()), lease.hostname.as_deref()),
        expected
    );
}

#[test]
fn the_interfaces_address_comes_before_the_instances_and_two_interfaces_share_none() {
    let instance = json!({"hostname": "", "ips": [{"address": "10.9.0.7"}]});
    let own = json!({"hostname": "rack-3", "ip": {"address": "10.0.0.2"}});
    let lease = machine(&instance, &own, 1).lease.unwrap();
    assert_eq!(
        (lease.address.to_string(), lease.netmask.to_string(), lease.hostname.as_deref()),
        ("10.0.0.2".into(), "255.255.255.0".into(), Some("rack-3"))
    );
    assert!(machine(&instance, &json!({}), 2).lease.is_none(), "which of the two would have it?");
}

#[test]
fn the_instance_decides_what_is_booted_before_the_hardware_does() {
    let of = |instance: &Value| machine(instance, &json!({}), 1);
    let plain = of(&json!({}));
    assert_eq!((plain.instance, plain.always_netboot), (None, false));
    assert!(matches!(plain.custom, Some(Custom::Url(url)) if url == "http://10.0.0.9/own.ipxe"));
    let own = of(&json!({"state": "active", "always_pxe": true, "ipxe_script_url": "http://10.0.0.9/tenant.ipxe"}));
    assert_eq!((own.instance.as_deref(), own.always_netboot), (Some("active"), true));
    assert!(matches!(own.custom, Some(Custom::Url(url)) if url == "http://10.0.0.9/tenant.ipxe"));
}
