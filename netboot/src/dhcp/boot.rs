//! What a reply says about booting: class, vendor options, file, server. Pure; the address is none of its business.
//! Wire reference §7.1–7.3. A name that does not fit the header's field travels in option 67, never cut.

use std::net::Ipv4Addr;

use spec::dhcp::Packet;
use spec::dhcp::option::*;

use super::client::{self, Client};
use super::reply::{Context, Refusal};
use crate::Machine;

/// The header's `file` has 128 bytes, one of them its end.
const FILE_MAX: usize = 127;
/// Boot the file that is named, do not look for boot servers: sub-option 6, bit 3.
const DISCOVERY: [u8; 3] = [6, 1, 8];
/// What the boot program of a Raspberry Pi looks for: sub-options 9 and 10.
const RASPBERRY: &[u8] = b"\x09\x14\x00\x00\x11Raspberry Pi Boot\x0a\x04\x00PXE";
/// iPXE's own options; in them, number 176 says that no other boot server is to be waited for.
const IPXE: u8 = 175;
const NO_PXEDHCP: [u8; 3] = [176, 1, 1];

/// The file that a client is sent to; empty for one that knows by itself what it wants.
pub(super) fn file(
    request: &Packet,
    client: Client,
    machine: Option<&Machine>,
    context: &Context<'_>,
) -> Result<String, Refusal> {
    let refused = |why: String| Refusal { asked: "boot file", why };
    let Some(mac) = request.mac() else { return Err(refused("it has no MAC address".into())) };
    if client == Client::Ipxe {
        return Ok(context.settings.script_url(mac));
    }
    if client == Client::Pi {
        return Ok(String::new());
    }
    let numbers = client::architectures(request);
    let own = machine.map(|machine| machine.loaders.as_slice()).unwrap_or_default();
    let candidates: Vec<String> = numbers
        .iter()
        .find_map(|arch| {
            let site = context.settings.loaders.get(arch).cloned();
            let list =
                site.or_else(|| Some(client::loaders(*arch)?.iter().map(|name| (*name).to_owned()).collect()))?;
            Some(if own.is_empty() { list } else { own.to_vec() })
        })
        .ok_or_else(|| refused(format!("there is no loader for a firmware of architecture {numbers:?} (option 93)")))?;
    let there: Vec<String> = candidates.iter().filter(|name| context.has_loader(name)).cloned().collect();
    let Some(name) = (!there.is_empty()).then(|| context.choose(mac, &there)) else {
        return Err(refused(format!("none of its loaders is in the directory of loaders: {}", candidates.join(", "))));
    };
    Ok(if client == Client::Http { context.settings.loader_url(mac, &name) } else { name })
}

/// Says where to boot from.
pub(super) fn add(reply: &mut Packet, request: &Packet, client: Client, file: String, context: &Context<'_>) {
    let address: Ipv4Addr = context.settings.address;
    let asks = request.options.get(PARAMETERS).unwrap_or_default();
    if client::is_http(&request.options) {
        reply.options.push(VENDOR_CLASS, "HTTPClient");
    } else {
        // With both, iPXE takes the offer at once; without, it waits 3 seconds for offers of other boot servers.
        let mut vendor = DISCOVERY.to_vec();
        if client == Client::Pi {
            vendor.extend(RASPBERRY);
        }
        vendor.push(END);
        reply.options.push(VENDOR_CLASS, "PXEClient").push(VENDOR, vendor);
    }
    if let Some(id) = request.options.get(MACHINE_ID) {
        reply.options.push(MACHINE_ID, id);
    }
    if client == Client::Ipxe && request.options.has(IPXE) && !context.mode.is_proxy() {
        reply.options.push(IPXE, NO_PXEDHCP);
    }
    // A Raspberry Pi takes the server's address from option 66 whether it asked for it or not.
    if asks.contains(&TFTP_SERVER) || client == Client::Pi {
        reply.options.push(TFTP_SERVER, address.to_string());
    }
    if !file.is_empty() && (asks.contains(&BOOT_FILE) || file.len() > FILE_MAX) {
        reply.options.push(BOOT_FILE, &file);
    }
    if file.len() <= FILE_MAX {
        reply.file = file.into_bytes();
    }
    reply.siaddr = address;
}
