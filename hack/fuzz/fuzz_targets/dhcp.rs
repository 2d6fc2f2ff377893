//! Any datagram: no panic, and what was understood survives being sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::dhcp::Packet;

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Packet::decode(bytes) else { return };
    let again = Packet::decode(&packet.encode()).expect("what we send can be read");
    assert_eq!(again.xid, packet.xid);
    assert_eq!(again.mac(), packet.mac());
    assert_eq!(again.message_type(), packet.message_type());
});
