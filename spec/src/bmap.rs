//! Block maps of images (bmap 2.0): which blocks hold data, and what their digests are. Writes them; whoever reads one must
//! not believe it before its checksum is checked.

use std::fmt::Write;

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// Blocks that hold data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first block.
    pub first: u64,
    /// The last block.
    pub last: u64,
    /// SHA-256 of their bytes, as hex digits.
    pub sha256: String,
}

/// The map of one image.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Map {
    /// Bytes of the image.
    pub size: u64,
    /// In order, with gaps between them.
    pub ranges: Vec<Range>,
}

impl Map {
    /// Bytes that hold data, the last block counted whole.
    pub fn mapped(&self) -> u64 {
        self.blocks() * BLOCK
    }

    fn blocks(&self) -> u64 {
        self.ranges.iter().map(|range| range.last - range.first + 1).sum()
    }

    /// The file. Its checksum is of the file with zeros in the checksum's place; `sha256` gives hex digits.
    pub fn to_xml(&self, sha256: impl Fn(&[u8]) -> String) -> String {
        let zeros = "0".repeat(64);
        let text = self.render(&zeros);
        let checksum = sha256(text.as_bytes());
        self.render(&checksum)
    }

    fn render(&self, checksum: &str) -> String {
        let mut text = format!(
            "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {} </ImageSize>\n    \
             <BlockSize> {BLOCK} </BlockSize>\n    <BlocksCount> {} </BlocksCount>\n    \
             <MappedBlocksCount> {} </MappedBlocksCount>\n    <ChecksumType> sha256 </ChecksumType>\n    \
             <BmapFileChecksum> {checksum} </BmapFileChecksum>\n    <BlockMap>\n",
            self.size,
            self.size.div_ceil(BLOCK),
            self.blocks(),
        );
        for Range { first, last, sha256 } in &self.ranges {
            // Writing to a string cannot fail.
            let _ = match first == last {
                true => writeln!(text, "        <Range chksum=\"{sha256}\"> {first} </Range>"),
                false => writeln!(text, "        <Range chksum=\"{sha256}\"> {first}-{last} </Range>"),
            };
        }
        text.push_str("    </BlockMap>\n</bmap>\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_that_of_bmap_tools() {
        let range = |first, last| Range { first, last, sha256: "ab".repeat(32) };
        let map = Map { size: 3 * BLOCK + 1, ranges: vec![range(0, 1), range(3, 3)] };
        assert_eq!(map.mapped(), 3 * BLOCK);
        let text = map.to_xml(|bytes| {
            assert!(String::from_utf8_lossy(bytes).contains(&format!("> {} <", "0".repeat(64))));
            "cd".repeat(32)
        });
        for line in [
            "<ImageSize> 12289 </ImageSize>",
            "<BlocksCount> 4 </BlocksCount>",
            "<MappedBlocksCount> 3 </MappedBlocksCount>",
            "> 0-1 </Range>",
            "> 3 </Range>",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.contains(&"cd".repeat(32)));
    }
}
