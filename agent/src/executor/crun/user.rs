//! Who an image runs as: `user[:group]` by number, or by name as the image's own files have it.

use std::path::Path;

use spec::{Code, Failure};
use sys::tree::Tree;

/// More than any image's lists of users.
const MOST: u64 = 1 << 20;

/// User and group by number; root where nothing is said.
pub fn look_up(root: &Path, text: &str) -> Result<(u32, u32), Failure> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let tree = Tree::open(root).map_err(|error| Failure::new(Code::Start, error.to_string()))?;
    let list = |path: &str| {
        let bytes = tree.read(Path::new(path), MOST).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    resolve(text, &list("etc/passwd"), &list("etc/group")).ok_or_else(|| {
        Failure::new(Code::Start, format!("the image runs as {text:?}, and its own files know no such user or group"))
    })
}

fn resolve(text: &str, passwd: &str, group: &str) -> Option<(u32, u32)> {
    let (user, named_group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let field = |line: &str, i: usize| line.split(':').nth(i).unwrap_or_default().to_owned();
    let entry = passwd.lines().find(|line| field(line, 0) == user || field(line, 2) == user);
    let uid = user.parse().ok().or_else(|| field(entry?, 2).parse().ok())?;
    let gid = match named_group {
        None => entry.and_then(|entry| field(entry, 3).parse().ok()).unwrap_or(0),
        Some(name) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => field(group.lines().find(|line| field(line, 0) == name)?, 2).parse().ok()?,
        },
    };
    Some((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let (passwd, group) = ("root:x:0:0::/:\nwww:x:33:34::/:\n", "root:x:0:\ndisk:x:6:\n");
        for (text, want) in [
            ("www", Some((33, 34))),
            ("33", Some((33, 34))),
            ("www:disk", Some((33, 6))),
            ("1000", Some((1000, 0))),
            ("1000:1001", Some((1000, 1001))),
            ("nobody", None),
            ("www:none", None),
        ] {
            assert_eq!(resolve(text, passwd, group), want, "{text}");
        }
    }
}
