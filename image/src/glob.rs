//! Path patterns of component and module rules: `*` and `?` stay within a name, `**` crosses slashes.
//! A pattern matches whole paths, written with or without leading slash.

/// Whether the whole path matches the pattern.
pub fn matches(pattern: &str, path: &str) -> bool {
    matches_at(pattern.trim_start_matches('/').as_bytes(), path.trim_start_matches('/').as_bytes())
}

fn matches_at(pattern: &[u8], path: &[u8]) -> bool {
    // Remembers the last star: on a mismatch it takes one byte more. A `*` that meets a slash gives way to the last `**`.
    let (mut p, mut s) = (0, 0);
    let mut single: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            (double, single) = (Some((p, s)), None);
        } else if pattern.get(p) == Some(&b'*') {
            p += 1;
            single = Some((p, s));
        } else if p == pattern.len() && s == path.len() {
            return true;
        } else if s < path.len()
            && p < pattern.len()
            && (pattern[p] == path[s] || (pattern[p] == b'?' && path[s] != b'/'))
        {
            (p, s) = (p + 1, s + 1);
        } else if let Some((after, from)) = single.filter(|(_, from)| path.get(*from).is_some_and(|byte| *byte != b'/'))
        {
            (p, s) = (after, from + 1);
            single = Some((after, s));
        } else if let Some((after, from)) = double.filter(|(_, from)| *from < path.len()) {
            (p, s) = (after, from + 1);
            (double, single) = (Some((after, s)), None);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_know_slashes() {
        assert!(matches("/usr/bin/crun", "usr/bin/crun"));
        assert!(matches("usr/lib/*/libc.so.*", "usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!matches("usr/lib/*.so", "usr/lib/xtables/a.so"));
        assert!(matches("usr/lib/**.so", "usr/lib/xtables/a.so"));
        assert!(matches("drivers/net/**/*.ko.xz", "drivers/net/ethernet/intel/igc/igc.ko.xz"));
        assert!(matches("**", "a/b") && !matches("*", "a/b") && !matches("a?b", "a/b"));
        assert!(!matches("usr/bin/crun", "usr/bin/crun-wasm"));
    }

    /// The obvious, exponential matcher.
    fn slow(pattern: &[u8], path: &[u8]) -> bool {
        match (pattern, path) {
            ([], []) => true,
            ([b'*', b'*', rest @ ..], _) => (0..=path.len()).any(|n| slow(rest, &path[n..])),
            ([b'*', rest @ ..], _) => {
                let name = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
                (0..=name).any(|n| slow(rest, &path[n..]))
            }
            ([b'?', rest @ ..], [byte, path @ ..]) => *byte != b'/' && slow(rest, path),
            ([a, rest @ ..], [b, path @ ..]) => a == b && slow(rest, path),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_matcher(pattern in "[ab*?/]{0,9}", path in "[ab/]{0,10}") {
            prop_assert_eq!(matches_at(pattern.as_bytes(), path.as_bytes()), slow(pattern.as_bytes(), path.as_bytes()));
        }
    }
}
