//! Access control lists: the text that archives carry (acl(5)) as the value of the attribute that the kernel takes
//! (linux/posix_acl_xattr.h). Pure.

/// The attribute of the list that is checked.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of the list that new files inherit.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;
/// Entries; the kernel takes fewer.
const MOST: usize = 4096;

/// Why a list is not used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Not of the form.
    #[error("the ACL entry {0:?} is malformed")]
    Shape(String),
    /// A name without a number, which means nothing here.
    #[error(
        "the ACL names {0:?}, whom neither the archive nor the target knows by number: make it with --numeric-owner"
    )]
    Name(String),
    /// Nobody needs that many.
    #[error("the ACL has more than {MOST} entries")]
    Many,
}

/// Who an entry of a list is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// A user.
    User,
    /// A group.
    Group,
}

/// The value of the attribute. Names are looked up when the text has no number for them.
pub fn value(text: &[u8], lookup: &dyn Fn(Who, &str) -> Option<u32>) -> Result<Vec<u8>, Error> {
    let text = String::from_utf8_lossy(text);
    let entries = text.split([',', '\n']).map(|e| e.split('#').next().unwrap_or_default().trim());
    let mut read = Vec::new();
    for entry in entries.filter(|entry| !entry.is_empty()) {
        read.push(one(entry, lookup)?);
        if read.len() > MOST {
            return Err(Error::Many);
        }
    }
    // The kernel wants them in order of tag and number.
    read.sort_by_key(|(tag, _, id)| (*tag, *id));
    let mut out = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in read {
        out.extend(tag.to_le_bytes());
        out.extend(permissions.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    Ok(out)
}

fn one(entry: &str, lookup: &dyn Fn(Who, &str) -> Option<u32>) -> Result<(u16, u16, u32), Error> {
    let shape = || Error::Shape(entry.chars().take(80).collect());
    let fields: Vec<&str> = entry.split(':').map(str::trim).collect();
    // `mask::rwx` and `other::rwx` are also written with one colon.
    let (kind, name, permissions, number) = match fields.as_slice() {
        [kind, name, permissions] => (*kind, *name, *permissions, None),
        [kind, name, permissions, number] => (*kind, *name, *permissions, Some(*number)),
        [kind @ ("mask" | "m" | "other" | "o"), permissions] => (*kind, "", *permissions, None),
        _ => return Err(shape()),
    };
    let (who, tag) = match (kind, name.is_empty()) {
        ("user" | "u", true) => (None, 0x01),
        ("user" | "u", false) => (Some(Who::User), 0x02),
        ("group" | "g", true) => (None, 0x04),
        ("group" | "g", false) => (Some(Who::Group), 0x08),
        ("mask" | "m", true) => (None, 0x10),
        ("other" | "o", true) => (None, 0x20),
        _ => return Err(shape()),
    };
    let bits = permissions.chars().try_fold(0u16, |bits, c| match c {
        'r' => Some(bits | 4),
        'w' => Some(bits | 2),
        'x' => Some(bits | 1),
        '-' => Some(bits),
        _ => None,
    });
    let id = match who {
        None => NOBODY,
        Some(who) => number
            .and_then(|n| n.parse().ok())
            .or_else(|| name.parse().ok())
            .or_else(|| lookup(who, name))
            .ok_or_else(|| Error::Name(name.to_owned()))?,
    };
    Ok((tag, bits.ok_or_else(shape)?, id))
}

/// The number of a name in the text of a passwd(5) or group(5) file.
pub fn number_in(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(who: Who, name: &str) -> Option<u32> {
        (who == Who::User && name == "bob").then_some(1000)
    }

    #[test]
    fn every_way_to_write_an_entry_means_the_same() {
        let wanted = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 232, 3, 0, 0],
            &[4, 0, 5, 0, 255, 255, 255, 255],
            &[16, 0, 7, 0, 255, 255, 255, 255],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        for text in [
            "user::rw-\nuser:bob:r--\ngroup::r-x\nmask::rwx\nother::---\n",
            "other::---,user:1000:r--,user::rw-,mask::rwx,group::r-x",
            "user::rw-,user:alice:r--:1000,group::r-x,m:rwx,o:---",
            "user::rw-\t#effective:rw-\nu:bob:r\ng::rx\nmask::rwx\nother::-\n",
        ] {
            assert_eq!(value(text.as_bytes(), &lookup).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn a_name_that_nobody_knows_is_an_error() {
        assert_eq!(value(b"user:eve:rwx", &lookup), Err(Error::Name("eve".into())));
        for text in ["user", "user::q", "mask:x:rwx", "a:b:c:d:e"] {
            assert!(matches!(value(text.as_bytes(), &lookup), Err(Error::Shape(_))), "{text}");
        }
        assert_eq!(number_in("root:x:0:0::/:\nbob:x:1000:1000::/:\n", "bob"), Some(1000));
    }
}
