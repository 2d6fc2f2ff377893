//! Who may boot what: ordered rules over facts, as data. Pure; the first rule that holds decides, and every decision
//! says which it was and why the earlier ones were not it. The site's defaults are rules too (`defaults.yaml`).

mod condition;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use condition::{Condition, FACTS, Pattern};

use crate::facts::Facts;
use crate::machine::{History, Machine};

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For people and for `explain`.
    pub name: String,
    /// Absent: always.
    #[serde(default)]
    pub when: Condition,
    /// What follows.
    pub then: Verdict,
}

/// What a machine gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The installation environment.
    Installer,
    /// The same, for a machine that nobody has described: its worker id is its MAC address.
    Enroll,
    /// What is on its disk.
    Disk,
    /// Nothing, with the reason on its screen, until somebody changes something.
    Park,
    /// The iPXE script of its Hardware or Instance.
    Custom,
    /// The iPXE script at this URL.
    Chain(String),
    /// This iPXE script.
    Script(String),
    /// No boot file and no script, for this reason.
    Refuse(String),
}

/// The rules of a site, the defaults last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    list: Vec<Rule>,
    asks: bool,
}

/// Rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A chain needs one.
    #[error("rule {rule:?}: {url:?} is not an http, https or tftp URL")]
    Url {
        /// Its name.
        rule: String,
        /// What stands there.
        url: String,
    },
    /// `explain` could not tell them apart.
    #[error("two rules have the name {0:?}")]
    Name(String),
    /// Our own are broken.
    #[error("the built-in rules cannot be read: {0}")]
    Defaults(String),
}

/// Who asks for a decision.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// None: unknown.
    pub machine: Option<&'a Machine>,
    /// What it said.
    pub history: &'a History,
}

/// What was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The rule.
    pub rule: String,
    /// What it says.
    pub verdict: Verdict,
    /// The rules before it, and why they did not decide.
    pub passed: Vec<(String, String)>,
}

impl Rules {
    /// The operator's, then the defaults.
    pub fn new(own: Vec<Rule>) -> Result<Self, RulesError> {
        let defaults: Vec<Rule> = serde_saphyr::from_str(include_str!("defaults.yaml"))
            .map_err(|error| RulesError::Defaults(error.to_string()))?;
        let mut list: Vec<Rule> = Vec::new();
        for rule in own.into_iter().chain(defaults) {
            if let Verdict::Chain(url) = &rule.then
                && !["http://", "https://", "tftp://"].iter().any(|scheme| url.starts_with(scheme))
            {
                return Err(RulesError::Url { rule: rule.name, url: url.clone() });
            }
            if list.iter().any(|other| other.name == rule.name) {
                return Err(RulesError::Name(rule.name));
            }
            list.push(rule);
        }
        let asks = list.iter().any(|rule| rule.when.asks());
        Ok(Self { list, asks })
    }

    /// Whether a rule needs what only the machine's own script can tell.
    pub fn ask(&self) -> bool {
        self.asks
    }

    /// The verdict only, for the quick path.
    pub fn verdict(&self, subject: Subject<'_>) -> &Verdict {
        const NONE: &Verdict = &Verdict::Disk;
        self.list.iter().find(|rule| rule.when.is(&subject)).map_or(NONE, |rule| &rule.then)
    }

    /// The verdict and how it came about. The last default always holds.
    pub fn decide(&self, subject: Subject<'_>) -> Decision {
        let mut passed = Vec::new();
        for rule in &self.list {
            match rule.when.holds(&subject) {
                Ok(()) => return Decision { rule: rule.name.clone(), verdict: rule.then.clone(), passed },
                Err(why) => passed.push((rule.name.clone(), why)),
            }
        }
        Decision { rule: "none".into(), verdict: Verdict::Disk, passed }
    }
}

impl Subject<'_> {
    /// A fact as text.
    pub(crate) fn fact(&self, name: &str) -> Option<String> {
        let facts: &Facts = &self.history.facts;
        let machine = self.machine;
        let truth = |is: fn(&Machine) -> bool| machine.map(|machine| is(machine).to_string());
        match name {
            "mac" => facts.mac.or(machine.map(|m| m.mac)).map(|mac| mac.to_string()),
            "uuid" => facts.uuid.clone(),
            "serial" => facts.serial.clone(),
            "manufacturer" => facts.manufacturer.clone(),
            "product" => facts.product.clone(),
            "vendorClass" => facts.vendor_class.clone(),
            "userClass" => facts.user_class.clone(),
            "arch" => facts.arch.map(|arch| arch.to_string()),
            "firmware" => facts.firmware().map(str::to_owned),
            "interface" => facts.interface.clone(),
            "relay" => facts.relay.map(|relay| relay.to_string()),
            "circuitId" => facts.circuit_id.clone(),
            "remoteId" => facts.remote_id.clone(),
            "address" => facts.address.map(|address| address.to_string()),
            "known" => Some(machine.is_some().to_string()),
            "name" => machine.map(|m| m.name.clone()),
            "allowPXE" => truth(|m| m.allow_pxe),
            "alwaysNetboot" => truth(|m| m.always_netboot),
            "custom" => truth(|m| m.custom.is_some()),
            "workflow" => machine.map(|m| m.workflow.state.as_str().to_owned()),
            "instance" => machine.and_then(|m| m.instance.clone()),
            "boots" => Some(self.history.boots.to_string()),
            label => machine.and_then(|m| m.labels.get(label.strip_prefix("label.")?).cloned()),
        }
    }
}
