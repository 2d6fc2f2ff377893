//! The options of a packet as raw values in the order of the wire, and typed views of those that we use.
//! A view of a malformed value is none; the bytes are kept. Says nothing about what an option means for a reply.

use std::net::Ipv4Addr;

use super::MessageType;
use super::option::{ARCHITECTURE, END, MACHINE_ID, MESSAGE_TYPE, OVERLOAD, PAD, USER_CLASS, VENDOR};

/// Options in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    list: Vec<(u8, Vec<u8>)>,
    truncated: Option<u8>,
}

impl Options {
    /// Appends an option; a value of more than 255 bytes is split as RFC 3396 says.
    /// Pad, end and overload are framing, which [`super::Packet`] does by itself: they are left out.
    pub fn push(&mut self, code: u8, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        if matches!(code, PAD | END | OVERLOAD) {
            return self;
        }
        if value.is_empty() {
            self.list.push((code, Vec::new()));
        }
        self.list.extend(value.chunks(255).map(|part| (code, part.to_vec())));
        self
    }

    /// Appends an option made of addresses, unless there are none.
    pub fn push_addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) -> &mut Self {
        let value: Vec<u8> = addresses.iter().flat_map(Ipv4Addr::octets).collect();
        if value.is_empty() { self } else { self.push(code, value) }
    }

    /// The value, with all its parts joined (RFC 3396).
    pub fn get(&self, code: u8) -> Option<Vec<u8>> {
        let mut parts = self.list.iter().filter(|(each, _)| *each == code).map(|(_, value)| value).peekable();
        parts.peek()?;
        Some(parts.flatten().copied().collect())
    }

    /// Whether the option is there at all.
    pub fn has(&self, code: u8) -> bool {
        self.list.iter().any(|(each, _)| *each == code)
    }

    /// Every option as it stands on the wire.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.list.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// The option that claimed more bytes than there were; it and what followed it could not be read.
    pub fn truncated(&self) -> Option<u8> {
        self.truncated
    }

    /// Option 53.
    pub fn message_type(&self) -> Option<MessageType> {
        match self.get(MESSAGE_TYPE)?.as_slice() {
            [number] => MessageType::from_number(*number),
            _ => None,
        }
    }

    /// One address: options 1, 28, 50, 54.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(self.array::<4>(code)?))
    }

    /// Several addresses: options 3, 6, 42. Empty when absent or malformed.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let value = self.get(code).unwrap_or_default();
        let (addresses, rest) = value.as_chunks::<4>();
        if rest.is_empty() { addresses.iter().map(|octets| Ipv4Addr::from(*octets)).collect() } else { Vec::new() }
    }

    /// A number of 32 bits: option 51.
    pub fn number(&self, code: u8) -> Option<u32> {
        self.array(code).map(u32::from_be_bytes)
    }

    /// Text without its trailing NULs: options 12, 60, 66, 67. None unless it is printable UTF-8.
    pub fn text(&self, code: u8) -> Option<String> {
        let value = self.get(code)?;
        let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let text = String::from_utf8(value[..end].to_vec()).ok()?;
        (!text.chars().any(char::is_control)).then_some(text)
    }

    /// Option 93: every architecture, in the client's order. Empty when absent or malformed.
    pub fn architectures(&self) -> Vec<u16> {
        let value = self.get(ARCHITECTURE).unwrap_or_default();
        let (numbers, rest) = value.as_chunks::<2>();
        if rest.is_empty() { numbers.iter().map(|octets| u16::from_be_bytes(*octets)).collect() } else { Vec::new() }
    }

    /// Whether option 77 names this class, raw as iPXE writes it or in the list of RFC 3004.
    pub fn has_user_class(&self, class: &[u8]) -> bool {
        let Some(value) = self.get(USER_CLASS) else { return false };
        let mut rest = value.as_slice();
        while let Some((length, tail)) = rest.split_first() {
            let Some((item, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
            if item == class {
                return true;
            }
            rest = tail;
        }
        value == class
    }

    /// Option 97: the machine's UUID in the order of the wire. None unless of type 0.
    pub fn machine_id(&self) -> Option<[u8; 16]> {
        let [kind, id @ ..] = self.array::<17>(MACHINE_ID)?;
        (kind == 0).then_some(id)
    }

    /// A sub-option of option 43.
    pub fn vendor(&self, code: u8) -> Option<Vec<u8>> {
        let mut inner = Self::default();
        inner.read(&self.get(VENDOR)?);
        inner.get(code)
    }

    /// Appends what an area of the packet holds. The overload flags, if met, are the result.
    pub(super) fn read(&mut self, mut area: &[u8]) -> u8 {
        let mut overload = 0;
        while let Some((&code, rest)) = area.split_first() {
            match code {
                PAD => area = rest,
                END => break,
                _ => {
                    let part = rest.split_first().and_then(|(length, rest)| rest.split_at_checked((*length).into()));
                    let Some((value, tail)) = part else {
                        self.truncated = Some(code);
                        break;
                    };
                    match (code, value) {
                        (OVERLOAD, [flags]) => overload = *flags,
                        _ => self.list.push((code, value.to_vec())),
                    }
                    area = tail;
                }
            }
        }
        overload
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        for (code, value) in &self.list {
            // `push` and `read` keep every part below 256 bytes.
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.push(END);
    }

    fn array<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.get(code)?.try_into().ok()
    }
}
