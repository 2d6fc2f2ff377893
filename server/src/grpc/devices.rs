//! What of a machine is not at work, as its agent tells it: from the wire to JSON, and to a line for the log. Hostile
//! until parsed; keeps nothing.

use proto::convert::MAX_DEVICES;
use spec::devices::{Device, Devices, Firmware};
use tonic::Status;

/// Named in a line; the others are counted.
const NAMED: usize = 10;
/// Of a name, in characters.
const NAME: usize = 120;

/// None if nothing was sent.
// tonic's own error type; its size is not ours to choose.
#[allow(clippy::result_large_err)]
pub fn parse(bytes: &[u8]) -> Result<Option<Devices>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > MAX_DEVICES {
        return Err(Status::invalid_argument(format!("devices has more than {MAX_DEVICES} bytes")));
    }
    let parsed = serde_json::from_slice(bytes);
    parsed.map(Some).map_err(|error| Status::invalid_argument(format!("devices is no list of devices: {error}")))
}

/// What is missing, in one line; none if nothing is.
pub fn line(devices: &Devices) -> Option<String> {
    let drivers = devices.without_driver.iter().map(|device| format!("no driver for {device}"));
    let firmware = devices.missing_firmware.iter().map(wanted);
    let count = devices.without_driver.len() + devices.missing_firmware.len();
    let mut parts: Vec<String> =
        drivers.chain(firmware).take(NAMED).map(|part| part.chars().take(NAME).collect()).collect();
    if count > NAMED {
        parts.push(format!("and {} more", count - NAMED));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn wanted(Firmware { file, device }: &Firmware) -> String {
    let of = |device: &Device| format!("no firmware {file} for {device}");
    device.as_ref().map_or_else(|| format!("no firmware {file}"), of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_are_named_and_the_others_counted() {
        assert_eq!(line(&Devices::default()), None);
        let text = r#"{"without_driver":[{"bus":"pci","address":"0000:00:03.0","id":"8086:100e","class":"020000","name":"NIC"}],
            "missing_firmware":[{"file":"a.bin"}]}"#;
        let mut devices = parse(text.as_bytes()).unwrap().unwrap();
        let both = "no driver for pci 0000:00:03.0 [8086:100e] NIC; no firmware a.bin";
        assert_eq!(line(&devices).unwrap(), both);
        devices.missing_firmware = vec![devices.missing_firmware[0].clone(); 12];
        devices.without_driver[0].name = Some("x".repeat(5000));
        let line = line(&devices).unwrap();
        assert!(line.ends_with("; no firmware a.bin; and 3 more") && line.len() < 500, "{line}");
        assert_eq!(line.matches(';').count(), 10);
    }
}
