//! The choice: exactly as many disks as were asked for, or the reason why not of each one. Pure.

use std::fmt::Write;

use crate::report::size;
use crate::select::{Count, Selector, Term};

/// A disk that could be meant.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Candidate {
    /// The kernel's name.
    pub name: String,
    /// Model; empty when unknown.
    pub model: String,
    /// Serial number; empty when unknown.
    pub serial: String,
    /// World-wide name; empty when unknown.
    pub wwn: String,
    /// How it is connected; empty when unknown.
    pub transport: String,
    /// Bytes.
    pub size: u64,
    /// Platters.
    pub rotational: bool,
    /// The kernel says that it can be taken out.
    pub removable: bool,
    /// Why it must not be used whatever is asked for: mounted, held, read-only.
    pub unusable: Option<String>,
}

impl Candidate {
    /// Name, model, serial, size.
    pub fn describe(&self) -> String {
        let known = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        format!(
            "/dev/{} (model {}, serial {}, {})",
            self.name.replace('!', "/"),
            known(&self.model),
            known(&self.serial),
            size(self.size)
        )
    }
}

/// Why no disk was chosen: every disk and what speaks against it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}; there are: {disks}")]
pub struct NoMatch {
    what: String,
    disks: String,
    /// How many fitted.
    pub fitting: usize,
    /// Whether waiting for more disks cannot help: too many fit, or one that fits is in use.
    pub is_final: bool,
}

/// Indices of the disks that are meant.
pub fn pick(selector: &Selector, disks: &[Candidate]) -> Result<Vec<usize>, NoMatch> {
    let allows_removable = selector.terms().iter().any(Term::wants_removable);
    let refusal = |disk: &Candidate| -> Option<String> {
        if let Some(term) = selector.terms().iter().find(|term| !term.fits(disk)) {
            return Some(term.refusal(disk));
        }
        match &disk.unusable {
            Some(why) => Some(why.clone()),
            None if disk.removable && !allows_removable => {
                Some("it is removable, and the selector does not say removable".into())
            }
            None => None,
        }
    };
    let mut refusals: Vec<Option<String>> = disks.iter().map(refusal).collect();
    let fitting =
        |refusals: &[Option<String>]| -> Vec<usize> { (0..disks.len()).filter(|n| refusals[*n].is_none()).collect() };
    if let Some(term) = selector.terms().iter().find(|term| matches!(term, Term::Smallest | Term::Largest)) {
        let sizes = fitting(&refusals).into_iter().map(|n| disks[n].size);
        let best = if *term == Term::Smallest { sizes.min() } else { sizes.max() };
        for n in fitting(&refusals) {
            if Some(disks[n].size) != best {
                refusals[n] = Some(term.refusal(&disks[n]));
            }
        }
    }
    let chosen = fitting(&refusals);
    let is_right = match selector.count() {
        Count::All => !chosen.is_empty(),
        Count::Exactly(count) => chosen.len() == count,
    };
    if is_right { Ok(chosen) } else { Err(no_match(selector, disks, &refusals, chosen.len())) }
}

fn no_match(selector: &Selector, disks: &[Candidate], refusals: &[Option<String>], fitting: usize) -> NoMatch {
    let what = match (fitting, selector.count()) {
        (0, _) => format!("no disk matches {:?}", selector.to_string()),
        (n, Count::Exactly(1)) => format!("{n} disks match {:?}, it has to be one", selector.to_string()),
        (n, Count::Exactly(count)) => format!("{n} disks match {:?}, not {count}", selector.to_string()),
        (n, Count::All) => format!("{n} disks match {:?}", selector.to_string()),
    };
    let mut text = String::new();
    for (disk, refusal) in disks.iter().zip(refusals) {
        let separator = if text.is_empty() { "" } else { "; " };
        let why = refusal.as_deref().unwrap_or("it matches");
        let _ = write!(text, "{separator}{}: {why}", disk.describe());
    }
    let is_like_it = |disk: &Candidate| selector.terms().iter().all(|term| term.fits(disk));
    let is_final = fitting > 0 || disks.iter().any(is_like_it);
    NoMatch { is_final, what, disks: if text.is_empty() { "none".into() } else { text }, fitting }
}
