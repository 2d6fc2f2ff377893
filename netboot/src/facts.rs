//! What is known of a machine when it asks for something: what it said itself, and how it reached us. Pure data.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use spec::Mac;
use spec::dhcp::option::{ARCHITECTURE, MACHINE_ID, RELAY_AGENT, USER_CLASS, VENDOR_CLASS};
use spec::dhcp::{Options, Packet};

/// The longest text that is kept of what a machine says, in bytes.
const TEXT: usize = 128;

/// All that requests of one machine have told. Strings are as sent, printable, and bounded.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// The interface that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Option 97, or the script's query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// SMBIOS, by the script's query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// SMBIOS, by the script's query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// SMBIOS, by the script's query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Option 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_class: Option<String>,
    /// Option 77.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_class: Option<String>,
    /// The first number of option 93.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<u16>,
    /// Of ours, that heard it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// `giaddr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<Ipv4Addr>,
    /// Option 82, sub-option 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_id: Option<String>,
    /// Option 82, sub-option 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<String>,
    /// That it asked from, by HTTP or TFTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

impl Facts {
    /// What a DHCP message says.
    pub fn of(request: &Packet, interface: &str) -> Self {
        let options = &request.options;
        let relay = options.get(RELAY_AGENT).unwrap_or_default();
        Self {
            mac: request.mac(),
            uuid: options.get(MACHINE_ID).and_then(|id| uuid(&id)),
            vendor_class: text(options, VENDOR_CLASS),
            user_class: text(options, USER_CLASS),
            arch: options.get(ARCHITECTURE).and_then(|v| v.first_chunk().map(|two| u16::from_be_bytes(*two))),
            interface: Some(interface.to_owned()),
            relay: Some(request.giaddr).filter(|address| !address.is_unspecified()),
            circuit_id: sub_option(&relay, 1),
            remote_id: sub_option(&relay, 2),
            ..Self::default()
        }
    }

    /// What is newer wins; what is not said again stays.
    pub fn learn(&mut self, newer: Self) {
        macro_rules! take {
            ($($field:ident),*) => { $(if newer.$field.is_some() { self.$field = newer.$field; })* };
        }
        take!(mac, uuid, serial, manufacturer, product, vendor_class, user_class, arch, interface);
        take!(relay, circuit_id, remote_id, address);
    }

    /// `x86_64` or `aarch64`, as the number of option 93 says.
    pub fn architecture(&self) -> Option<&'static str> {
        match self.arch? {
            0 | 6 | 7 | 9 | 15 | 16 | 20 => Some("x86_64"),
            11 | 19 | 41 => Some("aarch64"),
            _ => None,
        }
    }

    /// `bios`, `uefi` or `http`.
    pub fn firmware(&self) -> Option<&'static str> {
        match self.arch? {
            0 => Some("bios"),
            15..=20 => Some("http"),
            6..=11 => Some("uefi"),
            _ => None,
        }
    }
}

/// Printable and bounded; none when nothing is left.
pub fn clean(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn text(options: &Options, code: u8) -> Option<String> {
    clean(&String::from_utf8_lossy(&options.get(code)?))
}

/// Of RFC 3046: text when it is text, else hexadecimal digits.
fn sub_option(mut area: &[u8], wanted: u8) -> Option<String> {
    while let Some(([code, length], rest)) = area.split_first_chunk::<2>() {
        let (value, tail) = rest.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return match std::str::from_utf8(value) {
                Ok(text) if !text.chars().any(char::is_control) => clean(text),
                _ => clean(&value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            };
        }
        area = tail;
    }
    None
}

/// Firmware sends the first three fields in the byte order of SMBIOS 2.6 and shows them swapped.
fn uuid(id: &[u8]) -> Option<String> {
    let [0, b @ ..] = <&[u8; 17]>::try_from(id).ok()? else { return None };
    let hex = |order: &[usize]| order.iter().map(|i| format!("{:02x}", b[*i])).collect::<String>();
    Some(format!(
        "{}-{}-{}-{}-{}",
        hex(&[3, 2, 1, 0]),
        hex(&[5, 4]),
        hex(&[7, 6]),
        hex(&[8, 9]),
        hex(&[10, 11, 12, 13, 14, 15])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_and_what_is_learnt_stays() {
        let mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
        let mut request = Packet::request(mac, 1);
        request.giaddr = Ipv4Addr::new(10, 1, 0, 1);
        request.options.push(VENDOR_CLASS, "PXEClient:Arch:00007").push(ARCHITECTURE, [0, 7, 0, 9]);
        request.options.push(RELAY_AGENT, b"\x01\x05ge-01\x02\x02\x00\xff");
        let mut id = vec![0];
        id.extend(0..16);
        request.options.push(MACHINE_ID, id);
        let mut facts = Facts::of(&request, "eth0");
        assert_eq!(facts.uuid.as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        assert_eq!((facts.circuit_id.as_deref(), facts.remote_id.as_deref()), (Some("ge-01"), Some("00ff")));
        assert_eq!((facts.architecture(), facts.firmware(), facts.arch), (Some("x86_64"), Some("uefi"), Some(7)));
        facts.learn(Facts { serial: clean("S1\n"), ..Facts::default() });
        assert_eq!((facts.serial.as_deref(), facts.arch), (Some("S1"), Some(7)));
        assert_eq!(clean(&"x".repeat(1000)).unwrap().len(), TEXT);
    }

    proptest::proptest! {
        #[test]
        fn no_relay_option_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = (sub_option(&bytes, 1), uuid(&bytes));
        }
    }
}
