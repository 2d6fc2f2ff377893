//! The table at the end of a seekable Zstandard file: how long each of its frames is, packed and unpacked. A skippable
//! frame, so every decoder passes it over (zstd, contrib/seekable_format).

/// Of the skippable frame.
const FRAME: u32 = 0x184d_2a5e;
/// Of the table itself, its last bytes.
const FOOTER: u32 = 0x8f92_eab1;

/// One frame: bytes packed and unpacked.
pub type Frame = (u32, u32);

/// The table as it is appended.
pub fn table(frames: &[Frame]) -> Vec<u8> {
    let size = (frames.len() * 8 + 9) as u32;
    let mut out = Vec::with_capacity(size as usize + 8);
    out.extend(FRAME.to_le_bytes());
    out.extend(size.to_le_bytes());
    for (packed, unpacked) in frames {
        out.extend(packed.to_le_bytes());
        out.extend(unpacked.to_le_bytes());
    }
    out.extend((frames.len() as u32).to_le_bytes());
    // No checksums of frames: each frame has its own.
    out.push(0);
    out.extend(FOOTER.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_its_own_length() {
        let table = table(&[(10, 20), (30, 40)]);
        assert_eq!(table.len(), 8 + 25);
        assert_eq!(u32::from_le_bytes(table[4..8].try_into().unwrap()) as usize, table.len() - 8);
        assert_eq!(table[8..16], [10, 0, 0, 0, 20, 0, 0, 0]);
        assert!(table.ends_with(&[0xb1, 0xea, 0x92, 0x8f]));
    }
}
