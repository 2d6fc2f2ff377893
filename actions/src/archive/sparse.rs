//! Where the data of a file with holes belongs: the map in each of GNU tar's forms, checked before it is used. Pure.

use crate::archive::header::{self, BLOCK};

/// A map may have this many pieces; real files have few.
pub const MOST: usize = 1 << 20;

/// A piece of data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Where it belongs in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Why a map is not used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Not a list of numbers.
    #[error("its map of holes is malformed")]
    Shape,
    /// Nobody needs that many.
    #[error("its map of holes has more than {MOST} pieces")]
    Many,
    /// Pieces overlap, go backwards, or lie beyond the end.
    #[error("its map of holes contradicts itself")]
    Order,
    /// The pieces are not the data.
    #[error("its map of holes has {mapped} bytes, its data {data}")]
    Length {
        /// By the map.
        mapped: u64,
        /// By the header.
        data: u64,
    },
}

/// The map, once it is known to fit the file and its data.
pub fn check(map: Vec<Extent>, size: u64, data: u64) -> Result<Vec<Extent>, Error> {
    let mut end = 0u64;
    let mut mapped = 0u64;
    for piece in &map {
        if piece.offset < end {
            return Err(Error::Order);
        }
        end = piece.offset.checked_add(piece.len).filter(|end| *end <= size).ok_or(Error::Order)?;
        mapped += piece.len;
    }
    if mapped == data { Ok(map) } else { Err(Error::Length { mapped, data }) }
}

/// Pieces in a field of a GNU header or one of its extensions: pairs of numbers of twelve bytes, until an empty one.
pub fn pairs(field: &[u8], map: &mut Vec<Extent>) -> Result<(), Error> {
    for pair in field.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        let number = |bytes| header::number("offset", bytes).ok().and_then(|n| u64::try_from(n).ok());
        let (Some(offset), Some(len)) = (number(&pair[..12]), number(&pair[12..])) else { return Err(Error::Shape) };
        map.push(Extent { offset, len });
        if map.len() > MOST {
            return Err(Error::Many);
        }
    }
    Ok(())
}

/// Version 0.1: `offset,length,offset,length`.
pub fn commas(text: &[u8]) -> Option<Vec<Extent>> {
    let numbers = text.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<_>>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[offset, len]| Extent { offset: *offset, len: *len }).collect())
}

/// Version 1.0: a count and that many pairs, one number a line, before the data; `next` gives the blocks. Says how
/// many bytes the map took.
pub fn lines<E>(mut next: impl FnMut() -> Result<[u8; BLOCK], E>) -> Result<Result<(Vec<Extent>, u64), Error>, E> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted = 1;
    let mut taken = 0;
    let mut digits = Vec::new();
    while numbers.len() < wanted {
        let block = next()?;
        taken += BLOCK as u64;
        for byte in block {
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Ok(Err(Error::Shape));
                }
                continue;
            }
            let Some(number) = decimal(&digits) else { return Ok(Err(Error::Shape)) };
            digits.clear();
            numbers.push(number);
            if numbers.len() == 1 {
                match usize::try_from(number).ok().filter(|count| *count <= MOST) {
                    Some(count) => wanted = 1 + 2 * count,
                    None => return Ok(Err(Error::Many)),
                }
            }
            if numbers.len() == wanted {
                break;
            }
        }
    }
    let (pairs, _) = numbers[1..].as_chunks::<2>();
    Ok(Ok((pairs.iter().map(|[offset, len]| Extent { offset: *offset, len: *len }).collect(), taken)))
}

/// Digits and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, len: u64) -> Extent {
        Extent { offset, len }
    }

    #[test]
    fn a_map_has_to_fit_file_and_data() {
        assert!(check(vec![piece(0, 4), piece(8, 2), piece(10, 0)], 10, 6).is_ok());
        assert_eq!(check(vec![piece(4, 4), piece(0, 2)], 10, 6), Err(Error::Order));
        assert_eq!(check(vec![piece(0, 4), piece(3, 2)], 10, 6), Err(Error::Order));
        assert_eq!(check(vec![piece(8, 3)], 10, 3), Err(Error::Order));
        assert_eq!(check(vec![piece(u64::MAX, 2)], u64::MAX, 2), Err(Error::Order));
        assert_eq!(check(vec![piece(0, 4)], 10, 5), Err(Error::Length { mapped: 4, data: 5 }));
    }

    #[test]
    fn maps_in_lines_go_over_blocks() {
        let mut text = String::from("100\n");
        for n in 0..100 {
            text.push_str(&format!("{}\n1\n", n * 10_000));
        }
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut blocks = bytes.chunks_exact(BLOCK);
        let read = lines(|| blocks.next().map(|b| b.try_into().unwrap()).ok_or(())).unwrap().unwrap();
        assert_eq!((read.0.len(), read.0[99], read.1), (100, piece(990_000, 1), bytes.len() as u64));
        assert!(blocks.next().is_none());
    }

    #[test]
    fn absurd_maps_are_refused_before_they_take_memory() {
        let block = |text: &[u8]| {
            let mut block = [0; BLOCK];
            block[..text.len()].copy_from_slice(text);
            block
        };
        let read = |text: &'static [u8]| lines(|| Ok::<_, ()>(block(text))).unwrap().map(|_| ());
        assert_eq!(read(b"99999999999999\n"), Err(Error::Many));
        assert_eq!(read(b"x\n"), Err(Error::Shape));
        assert_eq!(read(b"111111111111111111111111111111"), Err(Error::Shape));
        assert_eq!(commas(b"1,2,3"), None);
        assert_eq!(commas(b"1,2,3,4").map(|m| m.len()), Some(2));
    }
}
