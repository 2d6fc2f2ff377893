//! Which disk is meant: a path, or what the disk has to be like. The grammar, and the choice among the disks there are.
//! Pure; `disk::find` reads the machine.
//!
//! ```text
//! selector = term { "," term }
//! term     = path | [ "!" ] test | "smallest" | "largest" | "count=" ( number | "all" ) | "partition=" name
//! test     = ( "serial" | "wwn" | "model" | "name" | "transport" ) ( "=" pattern | "~" part )
//!          | "size" ( "=" | "<" | "<=" | ">" | ">=" ) number [ unit ]
//!          | "rotational" [ "=" boolean ] | "removable" [ "=" boolean ]
//! ```

pub mod alias;
mod pick;
mod term;

use std::fmt;
use std::path::{Path, PathBuf};

pub use pick::{Candidate, NoMatch, pick};
pub use term::{Term, bytes, wildcard};

/// How many disks have to match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Exactly so many.
    Exactly(usize),
    /// One or more.
    All,
}

/// What an operator wrote for a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector {
    text: String,
    /// Set when it is a path and nothing else.
    path: Option<PathBuf>,
    terms: Vec<Term>,
    count: Count,
    partition: Option<String>,
}

impl Default for Selector {
    /// Matches nothing; what a failed parse leaves behind until its problem is reported.
    fn default() -> Self {
        Self::from(Path::new("/dev/null"))
    }
}

impl From<&Path> for Selector {
    fn from(path: &Path) -> Self {
        let text = path.display().to_string();
        Self { text, path: Some(path.to_owned()), terms: Vec::new(), count: Count::Exactly(1), partition: None }
    }
}

impl From<&PathBuf> for Selector {
    fn from(path: &PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

impl From<&Selector> for Selector {
    fn from(selector: &Selector) -> Self {
        selector.clone()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Selector {
    /// The path, when it is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What a disk has to be.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// How many have to match.
    pub fn count(&self) -> Count {
        self.count
    }

    /// Number or label of the partition that is meant.
    pub fn partition(&self) -> Option<&str> {
        self.partition.as_deref()
    }
}

/// One disk, or one partition of one disk.
pub fn parse(text: &str) -> Result<Selector, String> {
    let selector = selector(text)?;
    match selector.count {
        Count::Exactly(1) => Ok(selector),
        _ => Err(format!("{text:?} asks for more than one disk, this action takes one")),
    }
}

/// Paths, or one selector, which may ask for several disks.
pub fn parse_list(text: &str) -> Result<Vec<Selector>, String> {
    let parts = split(text)?;
    if parts.iter().all(|part| part.starts_with('/')) {
        return parts.iter().map(|part| selector(part)).collect();
    }
    selector(text).map(|selector| vec![selector])
}

/// Disks that are not meant: selectors without a choice among several, separated by semicolons.
pub fn parse_excluded(text: &str) -> Result<Vec<Selector>, String> {
    let one = |part: &str| {
        let selector = selector(part)?;
        let chooses = selector.terms.iter().any(|term| matches!(term, Term::Smallest | Term::Largest));
        if chooses || selector.count != Count::Exactly(1) || selector.partition.is_some() {
            return Err(format!("{part:?} chooses; what is excluded is a path, or what the disks are like"));
        }
        Ok(selector)
    };
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

fn selector(text: &str) -> Result<Selector, String> {
    let text = text.trim();
    let parts = split(text)?;
    let mut selector =
        Selector { text: text.to_owned(), path: None, terms: vec![], count: Count::Exactly(1), partition: None };
    let mut paths = 0;
    for part in &parts {
        if let Some(value) = part.strip_prefix("count=") {
            selector.count = match value.parse() {
                Ok(count) if count > 0 => Count::Exactly(count),
                _ if value == "all" => Count::All,
                _ => return Err(format!("{part:?} is not count=<number> or count=all")),
            };
        } else if let Some(name) = part.strip_prefix("partition=").filter(|name| !name.is_empty()) {
            selector.partition = Some(name.to_owned());
        } else if part.starts_with('/') {
            selector.path = Some(PathBuf::from(part));
            paths += 1;
        } else {
            selector.terms.push(term::parse(part)?);
        }
    }
    let extremes = selector.terms.iter().filter(|term| matches!(term, Term::Smallest | Term::Largest)).count();
    match () {
        () if paths > 1 => Err(format!("{text:?} has more than one path, this action takes one disk")),
        () if paths == 1 && !selector.terms.is_empty() => {
            Err(format!("{text:?} mixes a path with tests; a path alone says which disk is meant"))
        }
        () if extremes > 1 => Err(format!("{text:?} has more than one of smallest and largest")),
        () if extremes == 1 && selector.count != Count::Exactly(1) => {
            Err(format!("{text:?}: there is one smallest or largest disk, not several"))
        }
        () if paths == 0 && selector.terms.is_empty() => {
            Err(format!("{text:?} says nothing about the disk: give a path below /dev, or tests as serial= or size>="))
        }
        () => Ok(selector),
    }
}

/// At commas that are not between quotes; quotes are taken away.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for c in text.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => parts.push(String::new()),
            c => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    if is_quoted {
        return Err(format!("{text:?} has a quote that does not end"));
    }
    let parts: Vec<_> = parts.iter().map(|part| part.trim().to_owned()).collect();
    if parts.iter().any(String::is_empty) { Err(format!("{text:?} has an empty term")) } else { Ok(parts) }
}

#[cfg(test)]
mod tests;
