//! The kernel's log as it is written, from its first record on: /dev/kmsg. What a record means is decided elsewhere.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;

/// A record is never longer (`PRINTK_MESSAGE_MAX` and its dictionary).
const MAX_RECORD: usize = 8192;

/// Reads the log.
#[derive(Debug)]
pub struct Log {
    file: File,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The line.
    pub text: String,
    /// The device it is about, as the driver core says it: `+pci:0000:00:03.0`, `n2`, `b8:0`.
    pub device: Option<String>,
}

impl Log {
    /// Opens it before its first record.
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open(Path::new("/dev/kmsg"))? })
    }

    /// Waits for the next one. Records that were overwritten before they could be read are passed over.
    pub fn hear(&mut self) -> io::Result<Record> {
        let mut buffer = [0; MAX_RECORD];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    if let Some(record) = Record::parse(&String::from_utf8_lossy(&buffer[..length])) {
                        return Ok(record);
                    }
                }
                Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Record {
    /// `priority,sequence,time,flags;text`, then lines of ` KEY=value` (the kernel's Documentation/ABI/testing/dev-kmsg).
    pub fn parse(record: &str) -> Option<Self> {
        let mut lines = record.lines();
        let text = lines.next()?.split_once(';')?.1.to_owned();
        let device = lines.find_map(|line| line.strip_prefix(" DEVICE=")).map(str::to_owned);
        Some(Self { text, device })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_device_are_told_apart() {
        let record = "6,339,5140900,-;NET: Registered; PF_INET\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:03.0\n";
        let expected = Record { text: "NET: Registered; PF_INET".into(), device: Some("+pci:0000:00:03.0".into()) };
        assert_eq!(Record::parse(record), Some(expected));
        assert_eq!(Record::parse("6,1,2,-;plain\n"), Some(Record { text: "plain".into(), device: None }));
        assert_eq!(Record::parse("no record"), None);
    }
}
