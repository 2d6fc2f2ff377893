//! Extended attributes of tar entries as POSIX writes them (`<length> <key>=<value>\n`), with the keys that GNU tar,
//! star and libarchive added. Pure.

use crate::archive::sparse::{self, Extent};

/// What is wrong with a list of attributes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Not of that form.
    #[error("an extended attribute is malformed at byte {at} of its list")]
    Shape {
        /// Where in the list.
        at: usize,
    },
    /// A value that is no number.
    #[error("the extended attribute {key} is {value:?}, which cannot be used")]
    Value {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
}

/// Attributes that replace fields of a header, and those that a header has no room for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Attributes {
    /// Name.
    pub path: Option<Vec<u8>>,
    /// Link target.
    pub link: Option<Vec<u8>>,
    /// Bytes of data in the archive.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<u64>,
    /// Group.
    pub gid: Option<u64>,
    /// Seconds and nanoseconds since 1970.
    pub mtime: Option<(i64, u32)>,
    /// Name and value, as setxattr(2) takes them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// ACL as text.
    pub acl_access: Option<Vec<u8>>,
    /// Default ACL of a directory as text.
    pub acl_default: Option<Vec<u8>>,
    /// Holes.
    pub sparse: Sparse,
}

/// GNU's three ways to say where the data of a file with holes belongs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sparse {
    /// Version 1.0: the map precedes the data.
    pub in_data: bool,
    /// The name without the trick that keeps it from other programs.
    pub name: Option<Vec<u8>>,
    /// Bytes of the file, holes included.
    pub size: Option<u64>,
    /// Versions 0.0 and 0.1: the map itself.
    pub map: Option<Vec<Extent>>,
    /// Half of a pair of version 0.0.
    offset: Option<u64>,
}

impl Attributes {
    /// Adds a list to what is there, later values winning.
    pub fn read(&mut self, list: &[u8]) -> Result<(), Error> {
        let mut at = 0;
        while at < list.len() {
            let (key, value, len) = record(&list[at..]).ok_or(Error::Shape { at })?;
            self.set(key, value)?;
            at += len;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let bad = || Error::Value {
            key: String::from_utf8_lossy(key).into_owned(),
            value: String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned(),
        };
        let number = || sparse::decimal(value).ok_or_else(bad);
        let owned = || Some(value.to_vec()).filter(|v| !v.is_empty());
        match key {
            b"path" => self.path = owned(),
            b"linkpath" => self.link = owned(),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(bad)?),
            b"SCHILY.acl.access" => self.acl_access = owned(),
            b"SCHILY.acl.default" => self.acl_default = owned(),
            b"RHT.security.selinux" => self.xattr(b"security.selinux", value),
            b"GNU.sparse.major" => self.sparse.in_data = number()? == 1,
            b"GNU.sparse.name" => self.sparse.name = owned(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(number()?),
            b"GNU.sparse.map" => self.sparse.map = Some(sparse::commas(value).ok_or_else(bad)?),
            b"GNU.sparse.offset" => self.sparse.offset = Some(number()?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or_else(bad)?;
                self.sparse.map.get_or_insert_default().push(Extent { offset, len: number()? });
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").filter(|name| !name.is_empty()) {
                    self.xattr(name, value);
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) {
        self.xattrs.retain(|(known, _)| known != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
    }
}

/// Key, value and length of the first record.
fn record(list: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let space = list.iter().take(20).position(|byte| *byte == b' ')?;
    let len = usize::try_from(sparse::decimal(&list[..space])?).ok()?;
    let body = list.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], len))
}

/// Seconds, perhaps negative, perhaps with a fraction, as seconds and nanoseconds that are never negative.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (is_negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(sparse::decimal(whole)?).ok()?;
    let nanos = (0..9).fold(0u32, |n, place| n * 10 + u32::from(fraction.get(place).map_or(0, |d| d - b'0')));
    match (is_negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(records: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in records {
            let body = format!(" {key}={value}\n");
            let len = (1..).find(|n| body.len() + n.to_string().len() == *n).unwrap();
            out.extend(format!("{len}{body}").into_bytes());
        }
        out
    }

    #[test]
    fn records_are_read_and_later_ones_win() {
        let mut a = Attributes::default();
        a.read(&list(&[("path", "a/b=c\nd"), ("size", "7"), ("mtime", "12.5"), ("SCHILY.xattr.user.x", "1")])).unwrap();
        a.read(&list(&[("size", "8"), ("SCHILY.xattr.user.x", "2"), ("comment", "none")])).unwrap();
        assert_eq!(a.path.as_deref(), Some(&b"a/b=c\nd"[..]));
        assert_eq!((a.size, a.mtime), (Some(8), Some((12, 500_000_000))));
        assert_eq!(a.xattrs, [(b"user.x".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn times_before_1970_and_with_many_digits() {
        for (text, value) in [("-1", (-1, 0)), ("-0.25", (-1, 750_000_000)), ("3.1234567899", (3, 123_456_789))] {
            assert_eq!(time(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "-", "1.x", "1e9", "99999999999999999999"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn malformed_lists_are_refused_where_they_break() {
        for (bytes, at) in [(&b"9 a=b\n"[..], 0), (b"6 a=b\n6 ab\n\n", 6), (b"x a=b\n", 0), (b"5 =b\n\n", 0)] {
            assert_eq!(Attributes::default().read(bytes), Err(Error::Shape { at }), "{bytes:?}");
        }
        assert!(matches!(Attributes::default().read(&list(&[("uid", "-1")])), Err(Error::Value { .. })));
    }

    #[test]
    fn pairs_of_version_0_0_are_a_map() {
        let mut a = Attributes::default();
        a.read(&list(&[
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "5"),
            ("GNU.sparse.offset", "9"),
            ("GNU.sparse.numbytes", "1"),
        ]))
        .unwrap();
        assert_eq!(a.sparse.map.unwrap(), [Extent { offset: 0, len: 5 }, Extent { offset: 9, len: 1 }]);
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Attributes::default().read(&bytes);
        }
    }
}
