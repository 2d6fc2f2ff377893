//! Maps as they are written by spec::bmap, and ones that nobody should believe.

use proptest::prelude::*;

use super::*;

const BLOCK: usize = 4096;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image with holes, its map as text.
fn image() -> (Vec<u8>, String) {
    let mut bytes = vec![0; 200 * BLOCK + 1000];
    for range in [0..3, 40..41, 120..160, 200..201] {
        for at in range.start * BLOCK..(range.end * BLOCK).min(bytes.len()) {
            bytes[at] = (at >> 4) as u8 | 1;
        }
    }
    let of = |first: u64, last: u64| {
        let end = ((last as usize + 1) * BLOCK).min(bytes.len());
        let sha256 = hex(&Sha256::digest(&bytes[first as usize * BLOCK..end]));
        spec::bmap::Range { first, last, sha256 }
    };
    let ranges = vec![of(0, 2), of(40, 40), of(120, 159), of(200, 200)];
    let map = spec::bmap::Map { size: bytes.len() as u64, ranges };
    let text = map.to_xml(|bytes| hex(&Sha256::digest(bytes)));
    (bytes, text)
}

/// With a checksum that fits again.
fn changed(text: &str, from: &str, to: &str) -> String {
    let sum = element(text, "BmapFileChecksum").unwrap().to_owned();
    let text = text.replace(&sum, &"0".repeat(64)).replacen(from, to, 1);
    let again = hex(&Sha256::digest(&text));
    text.replacen(&"0".repeat(64), &again, 1)
}

struct Memory(Vec<u8>, u64);

impl ReadAt for Memory {
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.1 += buf.len() as u64;
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }
}

fn stream(bytes: &[u8]) -> Origin {
    Origin::Stream(Box::new(io::Cursor::new(bytes.to_vec())))
}

#[test]
fn an_image_comes_whole_from_a_stream_and_from_a_file() {
    let (bytes, text) = image();
    let map = Map::parse(&text).unwrap();
    assert_eq!(map.size(), bytes.len() as u64);
    for from in [stream(&bytes), Origin::File(Box::new(Memory(bytes.clone(), 0)))] {
        let mut read = Vec::new();
        Mapped::new(map.clone(), from).read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    }
    let mut mapped = Mapped::new(map, Origin::File(Box::new(Memory(bytes, 0))));
    mapped.read_exact(&mut [0; 64 << 10]).unwrap();
    assert_eq!(mapped.skip_zeros(1 << 30).unwrap(), 64 << 10);
}

#[test]
fn other_bytes_are_noticed_in_data_and_in_gaps() {
    let (bytes, text) = image();
    let map = Map::parse(&text).unwrap();
    let read = |bytes: &[u8]| Mapped::new(map.clone(), stream(bytes)).read_to_end(&mut Vec::new());
    for at in [5, 41 * BLOCK, 130 * BLOCK, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let error = read(&bad).unwrap_err();
        assert!(matches!(Error::within(&error), Some(Error::Differs { .. })), "{at}: {error}");
    }
    for bad in [&bytes[..bytes.len() - 1], &[bytes.as_slice(), b"x"].concat()] {
        let error = read(bad).unwrap_err();
        assert!(matches!(Error::within(&error), Some(Error::Size { .. })), "{error}");
    }
}

#[test]
fn a_map_that_is_wrong_in_itself_is_refused() {
    let (_, text) = image();
    assert_eq!(Map::parse(&text.replacen("0-2", "0-1", 1)), Err(Error::Checksum));
    for (from, to) in [
        ("version=\"2.0\"", "version=\"3.0\""),
        ("sha256 </ChecksumType>", "md5 </ChecksumType>"),
        ("<BlockSize> 4096", "<BlockSize> 4095"),
        ("<ImageSize> ", "<ImageSize> 9"),
        ("<ImageSize> ", "<ImageSize> -"),
        ("0-2", "2-0"),
        ("0-2", "0-41"),
        ("> 40 <", "> 99999999999999999999 <"),
        ("> 40 <", "> 4503599627370495 <"),
        ("chksum=\"", "chksum=\"zz"),
        ("<Range ", "<Other/><Range "),
        ("</Range>", ""),
        ("<BlockMap>", ""),
    ] {
        let result = Map::parse(&changed(&text, from, to));
        assert!(result.is_err() && result != Err(Error::Checksum), "{from} -> {to}: {result:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(cut in 0usize..2000, junk in ".{0,40}") {
        let (_, text) = image();
        let cut = cut.min(text.len());
        let _ = Map::parse(&junk);
        let _ = Map::parse(&format!("{}{junk}{}", &text[..cut], &text[cut..]));
        let _ = Map::parse(&changed(&text, &text[cut.min(text.len() - 9)..][..8], &junk));
    }
}
