//! The firmware's table of its serial console (ACPI SPCR): where it is and how fast. Reads bytes, opens nothing.

/// Where the fields are (Microsoft's Serial Port Console Redirection Table, revisions 1 to 4).
const ADDRESS: usize = 44;
const BAUD: usize = 58;

/// What the table says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spcr {
    /// I/O port or physical address.
    pub address: u64,
    /// None: as it is.
    pub baud: Option<u32>,
}

/// None, if it is no such table or names no port.
pub fn parse(table: &[u8]) -> Option<Spcr> {
    if !table.starts_with(b"SPCR") {
        return None;
    }
    let address = u64::from_le_bytes(table.get(ADDRESS..ADDRESS + 8)?.try_into().ok()?);
    let baud = match table.get(BAUD)? {
        3 => Some(9600),
        4 => Some(19_200),
        6 => Some(57_600),
        7 => Some(115_200),
        _ => None,
    };
    (address != 0).then_some(Spcr { address, baud })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn port_and_speed_are_read() {
        let mut table = vec![0; 80];
        table[..4].copy_from_slice(b"SPCR");
        assert_eq!(parse(&table), None, "no port");
        table[44..46].copy_from_slice(&0x2f8_u16.to_le_bytes());
        table[58] = 3;
        assert_eq!(parse(&table), Some(Spcr { address: 0x2f8, baud: Some(9600) }));
        table[58] = 0;
        assert_eq!(parse(&table).unwrap().baud, None);
    }

    proptest! {
        #[test]
        fn no_table_panics(rest in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&[b"SPCR".to_vec(), rest].concat());
        }
    }
}
