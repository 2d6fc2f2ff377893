//! Existing ISOs whose boot configuration holds the field's placeholder of 1024 bytes (wire reference §7.7, appendix A):
//! it is looked for in the whole file, once, and laid over with this machine's arguments in whatever part is read.
//! What does not fit is an error; nothing behind the placeholder is ever touched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::Bytes;

use super::{Image, Segment};

/// As Hook and smee have it.
pub const PLACEHOLDER: &str = concat!(
    "464vn90e7rbj08xbwdjejmdf4it17c5zfzjyfhthbh19eij201hjgit021bmpdb9ctrc87x2ymc8e7icu4ffi15x1hah9iyaiz38",
    "ckyap8hwx2vt5rm44ixv4hau8iw718q5yd019um5dt2xpqqa2rjtdypzr5v1gun8un110hhwp8cex7pqrh2ivh0ynpm4zkkwc8wc",
    "n367zyethzy7q8hzudyeyzx3cgmxqbkh825gcak7kxzjbgjajwizryv7ec1xm2h0hh7pz29qmvtgfjj1vphpgq1zcbiiehv52wrj",
    "y9yq473d9t1rvryy6929nk435hfx55du3ih05kn5tju3vijreru1p6knc988d4gfdz28eragvryq5x8aibe5trxd0t6t7jwxkde3",
    "4v6pj1khmp50k6qqj3nzgcfzabtgqkmeqhdedbvwf3byfdma4nkv3rcxugaj2d0ru30pa2fqadjqrtjnv8bu52xzxv7irbhyvygy",
    "gxu1nt5z4fh9w1vwbdcmagep26d298zknykf2e88kumt59ab7nq79d8amnhhvbexgh48e8qc61vq2e9qkihzt1twk1ijfgw70nwi",
    "zai15iqyted2dt9gfmf2gg7amzufre79hwqkddc1cd935ywacnkrnak6r7xzcz7zbmq3kt04u2hg1iuupid8rt4nyrju51e6uejb",
    "2ruu36g9aibmz3hnmvazptu8x5tyxk820g2cdpxjdij766bt2n3djur7v623a2v44juyfgz80ekgfb9hkibpxh3zgknw8a34t4ji",
    "fhf116x15cei9hwch0fye3xyq0acuym8uhitu5evc4rag3ui0fny3qg4kju7zkfyy8hwh537urd5uixkzwu5bdvafz4jmv7imypj",
    "543xg5em8jk8cgk7c4504xdd5e4e71ihaumt6u5u2t1w7um92fepzae8p0vq93wdrd1756npu1pziiur1payc7kmdwyxg3hj5n4p",
    "hxbc29x0tcddamjrwt260b0w",
);

/// Read at once while looking.
const PIECE: usize = 4 << 20;

/// Where placeholders begin.
pub type Spots = Vec<u64>;

/// An ISO cannot be patched.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// It has none.
    #[error("the ISO has no placeholder for a kernel command line")]
    NoPlaceholder,
    /// They do not fit.
    #[error("the arguments have {length} bytes, the ISO's placeholder has 1024")]
    TooLong {
        /// How many.
        length: usize,
    },
}

/// All places of the placeholder, wherever pieces meet.
pub fn find(file: &File) -> io::Result<Spots> {
    let needle = PLACEHOLDER.as_bytes();
    let length = file.metadata()?.len();
    let mut spots = Vec::new();
    let mut buffer = vec![0; PIECE + needle.len() - 1];
    let mut at = 0;
    while at < length {
        let end = (at + buffer.len() as u64).min(length);
        let piece = &mut buffer[..(end - at) as usize];
        file.read_exact_at(piece, at)?;
        let mut from = 0;
        while let Some(found) = search(&piece[from..], needle) {
            spots.push(at + (from + found) as u64);
            from += found + needle.len();
        }
        // The next piece begins early enough for a placeholder that hangs over this one's end, and late enough for
        // one that has been found.
        at = (at + PIECE as u64).max(spots.last().map_or(0, |last| last + needle.len() as u64));
    }
    Ok(spots)
}

fn search(text: &[u8], needle: &[u8]) -> Option<usize> {
    // The first byte alone rules most places out.
    let mut from = 0;
    while let Some(found) = text[from..].iter().position(|byte| *byte == needle[0]) {
        from += found;
        if text[from..].starts_with(needle) {
            return Some(from);
        }
        from += 1;
    }
    None
}

/// The same file with this text in each place, filled up with blanks.
pub fn patched(file: Arc<File>, etag: &str, spots: &Spots, text: &str) -> Result<Image, PatchError> {
    if spots.is_empty() {
        return Err(PatchError::NoPlaceholder);
    }
    if text.len() > PLACEHOLDER.len() {
        return Err(PatchError::TooLong { length: text.len() });
    }
    let cover = Bytes::from(format!("{text:<width$}", width = PLACEHOLDER.len()));
    let total = file.metadata().map_or(0, |metadata| metadata.len());
    let (mut segments, mut at) = (Vec::new(), 0);
    for spot in spots {
        segments.push((at, spot - at, Segment::Part(Arc::clone(&file), at)));
        segments.push((*spot, cover.len() as u64, Segment::Memory(cover.clone())));
        at = spot + cover.len() as u64;
    }
    segments.push((at, total.saturating_sub(at), Segment::Part(file, at)));
    let tag = super::tag(text.as_bytes());
    Ok(Image { segments, total, etag: format!("\"{}-{tag}\"", etag.trim_matches('"')) })
}
