//! The patterns of modules.alias against what a bus says about a device: `*`, `?`, `[...]`, and `-` equal to `_`.
//! Patterns are found by the literal text before their first wildcard, so few of them are ever compared.

/// Patterns, each with its module's place in a table of names.
#[derive(Default, Debug)]
pub struct Patterns {
    /// Sorted by literal text.
    rows: Vec<Row>,
    /// The lengths of literal texts that occur.
    lengths: Vec<usize>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Row {
    literal: String,
    rest: String,
    module: u32,
}

impl Patterns {
    /// From pairs of pattern and module.
    pub fn new(pairs: impl Iterator<Item = (String, u32)>) -> Self {
        let mut rows: Vec<Row> = pairs
            .map(|(mut literal, module)| {
                let rest = literal.split_off(literal.find(['*', '?', '[']).unwrap_or(literal.len()));
                Row { literal: normalised_outside_sets(&literal), rest: normalised_outside_sets(&rest), module }
            })
            .collect();
        rows.sort_unstable();
        let mut lengths: Vec<usize> = rows.iter().map(|row| row.literal.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { rows, lengths }
    }

    /// The modules of all patterns that match, without repetition.
    pub fn matches(&self, text: &str) -> Vec<u32> {
        let text = normalised_outside_sets(text);
        let mut found = Vec::new();
        for &length in self.lengths.iter().take_while(|length| **length <= text.len()) {
            let Some((literal, rest)) = text.split_at_checked(length) else { continue };
            let start = self.rows.partition_point(|row| row.literal.as_str() < literal);
            let same = self.rows[start..].iter().take_while(|row| row.literal == literal);
            for row in same.filter(|row| matches(row.rest.as_bytes(), rest.as_bytes())) {
                if !found.contains(&row.module) {
                    found.push(row.module);
                }
            }
        }
        found
    }
}

fn normalised_outside_sets(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|c| {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                '-' if !inside => return '_',
                _ => {}
            }
            c
        })
        .collect()
}

/// Glob matching without recursion: on a mismatch the last `*` takes one byte more.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => set(&pattern[p..], text[t]).map(|length| p + length),
            Some(byte) if *byte == text[t] => Some(p + 1),
            _ => None,
        };
        match (step, retry) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((star, from))) => {
                retry = Some((star, from + 1));
                (p, t) = (star + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The length of the set at the start of `pattern`, if the byte is in it. A set that does not end holds nothing.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|b| *b == b']')? + 2;
    let (negated, members) = match &pattern[1..end] {
        [b'!' | b'^', rest @ ..] => (true, rest),
        members => (false, members),
    };
    let mut holds = false;
    let mut i = 0;
    while i < members.len() {
        match &members[i..] {
            [low, b'-', high, ..] => {
                holds |= (*low..=*high).contains(&byte);
                i += 3;
            }
            [one, ..] => {
                holds |= *one == byte;
                i += 1;
            }
            [] => break,
        }
    }
    (holds != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(patterns: &[&str], text: &str) -> Vec<u32> {
        Patterns::new((0..).zip(patterns).map(|(i, p)| ((*p).to_owned(), i))).matches(text)
    }

    #[test]
    fn buses_speak_in_patterns_like_these() {
        let patterns = [
            "pci:v00008086d0000100Esv*sd*bc*sc*i*",
            "pci:v*d*sv*sd*bc02sc00i*",
            "virtio:d00000001v*",
            "usb:v0BDAp8152d*dc*dsc*dp*ic*isc*ip*in*",
            "acpi*:PNP0F13:*",
            "fs-ext4",
            "usb:v04B4p[0-9A]*d*",
        ];
        let card = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00";
        let mut cards = found(&patterns, card);
        cards.sort_unstable();
        assert_eq!(cards, [0, 1]);
        assert_eq!(found(&patterns, "virtio:d00000001v00001AF4"), [2]);
        assert!(found(&patterns, "virtio:d00000002v00001AF4").is_empty());
        assert_eq!(found(&patterns, "acpi:PNP0F13:PNP0F03:"), [4]);
        assert_eq!(found(&patterns, "fs_ext4"), [5]);
        assert_eq!(found(&patterns, "usb:v04B4pA000d1"), [6]);
        assert!(found(&patterns, "usb:v04B4pB000d1").is_empty());
    }

    #[test]
    fn sets_may_be_negated_or_broken() {
        assert!(matches(b"a[!0-9]c", b"abc"));
        assert!(!matches(b"a[!0-9]c", b"a1c"));
        assert!(!matches(b"a[bc", b"ab"));
        assert!(!matches(b"a[", b"ab"));
    }

    /// The definition, without the cleverness.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|i| plain(rest, &text[i..])),
            ([b'?', rest @ ..], [_, tail @ ..]) => plain(rest, tail),
            ([a, rest @ ..], [b, tail @ ..]) if a == b => plain(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), plain(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn the_table_finds_what_comparing_all_would(patterns in proptest::collection::vec("[ab]{0,3}[ab*?]{0,3}", 0..20), text in "[ab]{0,6}") {
            let table = Patterns::new((0..).zip(&patterns).map(|(i, p)| (p.clone(), i)));
            let mut found = table.matches(&text);
            found.sort_unstable();
            let expected: Vec<u32> = (0..).zip(&patterns).filter(|(_, p)| plain(p.as_bytes(), text.as_bytes())).map(|(i, _)| i).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_text_panics(pattern in ".{0,20}", text in ".{0,20}") {
            let _ = Patterns::new([(pattern, 0)].into_iter()).matches(&text);
        }
    }
}
