//! Compressed streams whose bytes depend on the input and the level, not on the number of cores.

use std::io::{self, Write};

use flate2::GzBuilder;
use thiserror::Error;

use crate::cli::Compression;

/// A stream that cannot be made.
#[derive(Debug, Error)]
pub enum Error {
    /// A level that the compression does not have, or the kernel cannot unpack.
    #[error("{name} has no level {level}; an initramfs takes 1 to {most}")]
    Level {
        /// `zstd` or `gzip`.
        name: &'static str,
        /// As it was asked for.
        level: u32,
        /// The highest.
        most: u32,
    },
    /// The compressor failed.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
}

/// How to compress.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    compression: Compression,
    level: u32,
    threads: u32,
}

impl Recipe {
    /// A recipe whose level exists; 0 threads are as many as there are cores.
    pub fn new(compression: Compression, level: u32, threads: u32) -> Result<Self, Error> {
        let (name, most) = match compression {
            // Above 19 the window outgrows what the kernel unpacks.
            Compression::Zstd => ("zstd", 19),
            Compression::Gzip => ("gzip", 9),
        };
        if !(1..=most).contains(&level) {
            return Err(Error::Level { name, level, most });
        }
        let cores = || std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        Ok(Self { compression, level, threads: if threads == 0 { cores() } else { threads } })
    }

    /// How many cores may be used.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Runs `fill` into a compressed stream over `out`.
    pub fn run<T, E: From<Error>>(
        &self,
        out: &mut dyn Write,
        fill: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<T, E> {
        match self.compression {
            Compression::Zstd => {
                let level = i32::try_from(self.level).unwrap_or(19);
                let mut encoder = zstd::Encoder::new(out, level).map_err(Error::Compress)?;
                // Never 0, which would be another format: with workers, the input is cut into jobs by its size alone.
                encoder.multithread(self.threads).map_err(Error::Compress)?;
                encoder.include_checksum(true).map_err(Error::Compress)?;
                let filled = fill(&mut encoder)?;
                encoder.finish().map_err(Error::Compress)?;
                Ok(filled)
            }
            Compression::Gzip => {
                let mut encoder = GzBuilder::new().mtime(0).write(out, flate2::Compression::new(self.level));
                let filled = fill(&mut encoder)?;
                encoder.finish().map_err(Error::Compress)?;
                Ok(filled)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several jobs' worth of bytes that neither repeat nor are noise.
    fn input() -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        (0..12_000_000u32).map(|at| if at % 7 < 4 { (at / 4096) as u8 } else { next() as u8 & 0x3f }).collect()
    }

    fn packed(compression: Compression, level: u32, threads: u32, input: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let recipe = Recipe::new(compression, level, threads).unwrap();
        recipe.run(&mut bytes, |out| out.write_all(input).map_err(Error::Compress)).unwrap();
        bytes
    }

    #[test]
    fn the_number_of_cores_does_not_show_and_what_comes_out_is_what_went_in() {
        let input = input();
        let one = packed(Compression::Zstd, 1, 1, &input);
        for threads in [2, 3, 8] {
            assert!(packed(Compression::Zstd, 1, threads, &input) == one, "{threads} threads");
        }
        assert!(zstd::decode_all(&one[..]).unwrap() == input);
        let gzip = packed(Compression::Gzip, 1, 2, &input);
        assert!(gzip == packed(Compression::Gzip, 1, 1, &input));
        let mut again = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut again).unwrap();
        assert!(again == input);
    }

    #[test]
    fn levels_that_the_kernel_cannot_unpack_are_refused() {
        for (compression, level) in [(Compression::Zstd, 0), (Compression::Zstd, 20), (Compression::Gzip, 10)] {
            let error = Recipe::new(compression, level, 1).unwrap_err().to_string();
            assert!(error.contains(&format!("has no level {level}; an initramfs takes 1 to ")), "{error}");
        }
    }
}
