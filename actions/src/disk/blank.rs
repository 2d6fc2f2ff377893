//! What the ends of a disk hold that a new partition table would destroy, as far as their bytes tell. Unknown bytes count
//! as something. Must not touch a disk.

use crate::disk::superblock::{Content, GPT, recognise};

/// Records of an MBR: where each one's type is.
const TYPES: [usize; 4] = [450, 466, 482, 498];
/// Type of the record that protects a GPT.
const PROTECTIVE: u8 = 0xee;
/// Where a GPT's header can be, by size of the sectors.
const HEADERS: [usize; 2] = [512, 4096];

/// What a disk without a GPT holds; none when nothing at all is at its ends, or an MBR without records before a blank
/// tail.
pub fn of_ends(head: &[u8], tail: &[u8]) -> Option<String> {
    if let Some(what) = other_than_gpt(head) {
        return Some(what);
    }
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let records = records(head);
    if records.is_some_and(|types| types.contains(&PROTECTIVE))
        || HEADERS.iter().any(|at| head.get(*at..).is_some_and(|b| b.starts_with(b"EFI PART")))
    {
        return Some("the remains of a GPT".into());
    }
    if !is_zero(head) && records.is_none() {
        return Some("something unknown at its start".into());
    }
    (!is_zero(tail)).then(|| "something unknown at its end".into())
}

/// What the head holds besides, or in the place of, a GPT.
pub fn other_than_gpt(head: &[u8]) -> Option<String> {
    match recognise(head) {
        Content::FileSystem(name) => Some(format!("a file system ({name})")),
        other if other == GPT => of_mbr(head),
        Content::Other(name) => Some(name.into()),
        Content::Unknown => of_mbr(head),
    }
}

/// A DOS partition table that is in use: one that is not just the protection of a GPT, or a hybrid.
pub fn of_mbr(head: &[u8]) -> Option<String> {
    let types = records(head)?;
    let is_dos = types.iter().any(|kind| *kind != 0) && !types.contains(&PROTECTIVE);
    is_dos.then(|| "a DOS partition table".into())
}

/// The types of its records, when it is an MBR.
fn records(head: &[u8]) -> Option<[u8; 4]> {
    (head.get(510..512)? == [0x55, 0xaa]).then(|| TYPES.map(|at| head[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: usize = 1 << 20;

    type Piece = (usize, &'static [u8]);

    fn head(pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = vec![0; END];
        for (at, piece) in pieces {
            bytes[*at..at + piece.len()].copy_from_slice(piece);
        }
        bytes
    }

    const SIGNED: Piece = (510, &[0x55, 0xaa]);

    #[test]
    fn zeros_and_an_mbr_without_records_are_nothing() {
        let zeros = vec![0; END];
        assert_eq!(of_ends(&zeros, &zeros), None);
        assert_eq!(of_ends(&head(&[SIGNED, (0, &[0xfa; 440])]), &zeros), None);
    }

    #[test]
    fn whatever_else_is_there_is_named() {
        let zeros = vec![0; END];
        let cases: &[(&[Piece], &str)] = &[
            (&[SIGNED, (466, &[0x83])], "a DOS partition table"),
            (&[SIGNED, (450, &[0xee])], "the remains of a GPT"),
            (&[(4096, b"EFI PART")], "the remains of a GPT"),
            (&[(0, b"LUKS\xba\xbe")], "LUKS"),
            (&[(0x218, b"LVM2 001")], "an LVM physical volume"),
            (&[(0x438, &[0x53, 0xef])], "a file system (ext4)"),
            (&[SIGNED, (3, b"EXFAT   ")], "exFAT"),
            (&[(700, b"x")], "something unknown at its start"),
        ];
        for (pieces, what) in cases {
            assert_eq!(of_ends(&head(pieces), &zeros).as_deref(), Some(*what));
        }
        let mut tail = zeros.clone();
        tail[END - 1] = 1;
        for start in [zeros, head(&[SIGNED])] {
            assert_eq!(of_ends(&start, &tail).as_deref(), Some("something unknown at its end"));
        }
    }

    #[test]
    fn a_hybrid_and_a_protective_record_are_part_of_a_gpt() {
        assert_eq!(other_than_gpt(&head(&[SIGNED, (450, &[0xee]), (466, &[0x0c]), (512, b"EFI PART")])), None);
        assert!(of_mbr(&head(&[SIGNED, (450, &[0x83]), (512, b"EFI PART")])).is_some());
    }
}
