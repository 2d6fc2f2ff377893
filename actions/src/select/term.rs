//! One term of a selector: its text, and whether a disk fits it. Pure.

use crate::input;
use crate::report::size;
use crate::select::Candidate;

/// A text of the disk that can be tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// Serial number.
    Serial,
    /// World-wide name.
    Wwn,
    /// Model.
    Model,
    /// The kernel's name.
    Name,
    /// How it is connected.
    Transport,
}

const KEYS: &[(&str, Key)] = &[
    ("serial", Key::Serial),
    ("wwn", Key::Wwn),
    ("model", Key::Model),
    ("name", Key::Name),
    ("transport", Key::Transport),
];

const TRANSPORTS: &[&str] = &["nvme", "sata", "sas", "scsi", "usb", "virtio", "mmc", "iscsi", "fc", "virtual"];

/// How sizes are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

/// What a disk has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Term {
    /// The text fits a pattern with `*` and `?`.
    Is(Key, String),
    /// The text has this part, whatever the case.
    Has(Key, String),
    /// Bytes.
    Size(Order, u64),
    /// Platters or not.
    Rotational(bool),
    /// Removable or not.
    Removable(bool),
    /// Not that.
    Not(Box<Term>),
    /// The one that is smaller than all others that fit.
    Smallest,
    /// The one that is larger than all others that fit.
    Largest,
}

/// Reads one.
pub fn parse(text: &str) -> Result<Term, String> {
    if let Some(rest) = text.strip_prefix('!') {
        return match parse(rest.trim())? {
            Term::Smallest | Term::Largest => Err(format!("{text:?}: smallest and largest cannot be denied")),
            term => Ok(Term::Not(Box::new(term))),
        };
    }
    match text {
        "smallest" => return Ok(Term::Smallest),
        "largest" => return Ok(Term::Largest),
        "rotational" => return Ok(Term::Rotational(true)),
        "removable" => return Ok(Term::Removable(true)),
        _ => {}
    }
    let at = text.find(['=', '~', '<', '>']).ok_or_else(|| unknown(text))?;
    let (key, rest) = text.split_at(at);
    let (key, is_part) = (key.trim(), rest.starts_with('~'));
    if key == "size" {
        return parse_size(rest)
            .ok_or_else(|| format!("{text:?} is not size, =, <, <=, > or >=, and a number of bytes"));
    }
    let value = rest.get(1..).unwrap_or_default().trim();
    if rest.starts_with(['<', '>']) || value.is_empty() {
        return Err(unknown(text));
    }
    match key {
        "rotational" if !is_part => {
            return input::boolean(value).map(Term::Rotational).map_err(|e| format!("{key} {e}"));
        }
        "removable" if !is_part => return input::boolean(value).map(Term::Removable).map_err(|e| format!("{key} {e}")),
        _ => {}
    }
    let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == key) else { return Err(unknown(text)) };
    if *key == Key::Transport && !is_part && !value.contains(['*', '?']) && !TRANSPORTS.contains(&value) {
        return Err(format!("{value:?} is none of the transports {}", TRANSPORTS.join(", ")));
    }
    Ok(if is_part { Term::Has(*key, value.to_owned()) } else { Term::Is(*key, value.to_owned()) })
}

fn unknown(text: &str) -> String {
    format!(
        "{text:?} is neither a path nor one of serial=, wwn=, model=, model~, name=, transport=, size>=, rotational=, \
         removable, smallest, largest, partition=, count="
    )
}

fn parse_size(rest: &str) -> Option<Term> {
    let orders =
        [(">=", Order::AtLeast), ("<=", Order::AtMost), (">", Order::More), ("<", Order::Less), ("=", Order::Equal)];
    let (order, number) = orders.iter().find_map(|(sign, order)| Some((*order, rest.strip_prefix(sign)?)))?;
    bytes(number.trim()).map(|bytes| Term::Size(order, bytes))
}

/// A number and a unit: `KiB` counts by 1024, `kB` by 1000.
pub fn bytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000u64.pow(2),
        "GB" => 1000u64.pow(3),
        "TB" => 1000u64.pow(4),
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

impl Term {
    /// Whether the disk fits, as far as one disk can say.
    pub fn fits(&self, disk: &Candidate) -> bool {
        match self {
            Self::Is(Key::Wwn, pattern) => wildcard(&plain_wwn(pattern), &plain_wwn(&disk.wwn)),
            Self::Is(key, pattern) => wildcard(pattern, text(*key, disk)),
            Self::Has(key, part) => text(*key, disk).to_lowercase().contains(&part.to_lowercase()),
            Self::Size(order, bytes) => match order {
                Order::Equal => disk.size == *bytes,
                Order::Less => disk.size < *bytes,
                Order::AtMost => disk.size <= *bytes,
                Order::More => disk.size > *bytes,
                Order::AtLeast => disk.size >= *bytes,
            },
            Self::Rotational(wanted) => disk.rotational == *wanted,
            Self::Removable(wanted) => disk.removable == *wanted,
            Self::Not(term) => !term.fits(disk),
            Self::Smallest | Self::Largest => true,
        }
    }

    /// Whether it asks for disks that can be taken out.
    pub fn wants_removable(&self) -> bool {
        match self {
            Self::Removable(wanted) => *wanted,
            Self::Not(term) => matches!(**term, Self::Removable(false)),
            _ => false,
        }
    }

    /// Why a disk does not fit.
    pub fn refusal(&self, disk: &Candidate) -> String {
        let shown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        match self {
            Self::Is(key, _) | Self::Has(key, _) => {
                let name = KEYS.iter().find(|(_, k)| k == key).map_or("", |(name, _)| name);
                format!("its {name} is {}", shown(text(*key, disk)))
            }
            Self::Size(..) => format!("its size is {} ({} bytes)", size(disk.size), disk.size),
            Self::Rotational(_) => format!("it is {}rotational", if disk.rotational { "" } else { "not " }),
            Self::Removable(_) => format!("it is {}removable", if disk.removable { "" } else { "not " }),
            Self::Not(term) => term.refusal(disk),
            Self::Smallest => "another one is smaller".into(),
            Self::Largest => "another one is larger".into(),
        }
    }
}

fn text(key: Key, disk: &Candidate) -> &str {
    match key {
        Key::Serial => &disk.serial,
        Key::Wwn => &disk.wwn,
        Key::Model => &disk.model,
        Key::Name => &disk.name,
        Key::Transport => &disk.transport,
    }
}

/// `naa.5000c5…`, `0x5000C5…` and `5000c5…` are the same.
fn plain_wwn(text: &str) -> String {
    let text = text.trim().to_lowercase();
    let text =
        ["naa.", "eui.", "0x"].iter().fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    text.to_owned()
}

/// `*` stands for any text, `?` for one character. Linear but for one step back, so no pattern takes long.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    (p, t) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
