//! DHCPv4 on the wire (RFC 2131, 2132, 3396), for the server in netboot and the client in bootkit.
//! Order and unknown options survive; firmware is odd, so nothing here judges what it reads.

pub mod lease;
