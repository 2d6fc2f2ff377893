//! The YAML that a template renders to (wire reference §6.1), and the rules it must keep. Strict: an unknown key is
//! an error. Scalars of `environment` keep their source text, as Go's decoder does (wire §12.27).

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::Problem;
use super::render::Rendered;
use crate::yaml;

/// The longest name of a template, task or action.
const MAX_NAME: usize = 199;
/// A year, in seconds: more is a slip of the pen.
const MAX_TIMEOUT: i64 = 31_536_000;
/// More is a slip of the pen too.
const MAX_RETRIES: u32 = 100;

/// A scalar as it was written; nothing at all is an empty text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<String>::deserialize(from)?.unwrap_or_default()))
    }
}

/// The whole document.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// `0.1`, unchecked as upstream.
    #[serde(default)]
    #[allow(dead_code)]
    pub version: Option<Text>,
    /// For people.
    pub name: Option<Spanned<Text>>,
    /// Of older generations, without effect.
    #[serde(default)]
    #[allow(dead_code)]
    pub id: Option<Text>,
    /// Seconds; 0 for no limit.
    #[serde(default)]
    pub global_timeout: Option<Spanned<Text>>,
    /// In order.
    #[serde(default)]
    pub tasks: Option<Vec<Spanned<Task>>>,
}

/// Actions of one worker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Task {
    #[serde(default)]
    pub name: Option<Spanned<Text>>,
    #[serde(default)]
    pub worker: Option<Spanned<Text>>,
    #[serde(default)]
    pub actions: Option<Vec<Spanned<Action>>>,
    #[serde(default)]
    pub volumes: Option<Vec<Text>>,
    #[serde(default)]
    pub environment: Option<BTreeMap<String, Text>>,
}

/// One action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Action {
    #[serde(default)]
    pub name: Option<Spanned<Text>>,
    #[serde(default)]
    pub image: Option<Spanned<Text>>,
    #[serde(default)]
    pub timeout: Option<Spanned<Text>>,
    #[serde(default)]
    pub command: Option<Vec<Text>>,
    #[serde(default, rename = "on-timeout")]
    pub on_timeout: Option<Vec<Text>>,
    #[serde(default, rename = "on-failure")]
    pub on_failure: Option<Vec<Text>>,
    #[serde(default)]
    pub volumes: Option<Vec<Text>>,
    #[serde(default)]
    pub environment: Option<BTreeMap<String, Text>>,
    #[serde(default)]
    pub pid: Option<Spanned<Text>>,
    #[serde(default)]
    pub namespaces: Option<Namespaces>,
    /// The same as `timeout`, as newer templates spell it.
    #[serde(default, rename = "timeoutSeconds")]
    pub timeout_seconds: Option<Spanned<Text>>,
    /// How often it is tried again after a failure.
    #[serde(default)]
    pub retries: Option<Spanned<Text>>,
    /// `true` or `false` once it is rendered; an action whose condition is false is left out.
    #[serde(default, rename = "if")]
    pub condition: Option<Spanned<Text>>,
    /// `true`: the next action begins once this one runs.
    #[serde(default)]
    pub background: Option<Spanned<Text>>,
}

/// Namespaces that are not the action's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Namespaces {
    #[serde(default)]
    pub network: Option<Spanned<Text>>,
    #[serde(default)]
    pub pid: Option<Spanned<Text>>,
}

/// Reads what was rendered; the line of a problem is that of the template.
pub fn parse(rendered: &Rendered) -> Result<Document, Problem> {
    yaml::one(&rendered.text).map_err(|problem| Problem { line: rendered.line(problem.line), ..problem })
}

impl Document {
    /// All rules that the document breaks; the lines are those of the template.
    pub fn problems(&self, rendered: &Rendered) -> Vec<Problem> {
        let mut found = Found { rendered, problems: Vec::new() };
        found.name("name", self.name.as_ref(), 1);
        found.seconds("global_timeout", self.global_timeout.as_ref());
        let tasks = self.tasks.as_deref().unwrap_or_default();
        if tasks.is_empty() {
            found.add(1, "tasks", "a template needs at least one task");
        }
        let mut names = HashSet::new();
        for task in tasks {
            let line = line(task);
            found.unique("task", task.value.name.as_ref(), line, &mut names);
            if text(task.value.worker.as_ref()).is_empty() {
                found.add(line, "worker", "a task needs a worker");
            }
            let actions = task.value.actions.as_deref().unwrap_or_default();
            if actions.is_empty() {
                found.add(line, "actions", "a task needs at least one action");
            }
            let mut names = HashSet::new();
            actions.iter().for_each(|action| found.action(action, &mut names));
        }
        found.problems
    }
}

/// The text of an optional scalar.
pub fn text(value: Option<&Spanned<Text>>) -> &str {
    value.map_or("", |value| value.value.0.as_str())
}

/// Whole seconds within reason; absent is 0.
pub fn seconds(value: Option<&Spanned<Text>>) -> Option<i64> {
    match text(value) {
        "" => Some(0),
        // To Go this is octal, to a person it is not.
        text if text.starts_with('0') && text.len() > 1 => None,
        text => text.parse().ok().filter(|seconds| (0..=MAX_TIMEOUT).contains(seconds)),
    }
}

/// `true`, `false`, or nothing for the default.
pub fn truth(value: Option<&Spanned<Text>>, default: bool) -> Option<bool> {
    match text(value) {
        "" => Some(default),
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// How often to try again.
pub fn retries(value: Option<&Spanned<Text>>) -> Option<u32> {
    seconds(value).and_then(|count| u32::try_from(count).ok()).filter(|count| *count <= MAX_RETRIES)
}

/// The line of the rendered text on which a value begins.
pub fn line<T>(value: &Spanned<T>) -> usize {
    usize::try_from(value.referenced.line()).unwrap_or(0)
}

struct Found<'a> {
    rendered: &'a Rendered,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn add(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(self.rendered.line(line), key, message));
    }

    fn name(&mut self, what: &str, name: Option<&Spanned<Text>>, owner: usize) {
        let line = name.map_or(owner, line);
        match text(name).chars().count() {
            0 => self.add(line, "name", format!("{what} needs a name")),
            1..=MAX_NAME => {}
            length => {
                self.add(line, "name", format!("{what} has {length} characters, at most {MAX_NAME} are possible"))
            }
        }
    }

    fn unique<'a>(&mut self, what: &str, name: Option<&'a Spanned<Text>>, owner: usize, seen: &mut HashSet<&'a str>) {
        self.name(&format!("this {what}"), name, owner);
        let text = text(name);
        if !text.is_empty() && !seen.insert(text) {
            self.add(name.map_or(owner, line), "name", format!("{what} name {text:?} is used twice"));
        }
    }

    fn seconds(&mut self, key: &str, value: Option<&Spanned<Text>>) {
        if seconds(value).is_none() {
            let message = format!("{:?} is not a whole number of seconds from 0 to {MAX_TIMEOUT}", text(value));
            self.add(value.map_or(0, line), key, message);
        }
    }

    /// What the newer templates have beyond the field's.
    fn extras(&mut self, start: usize, action: &Action) {
        let place = |value: Option<&Spanned<Text>>| value.map_or(start, line);
        if action.timeout.is_some() && action.timeout_seconds.is_some() {
            self.add(place(action.timeout_seconds.as_ref()), "timeoutSeconds", "there is a timeout already");
        }
        if retries(action.retries.as_ref()).is_none() {
            let message = format!("{:?} is not a whole number from 0 to {MAX_RETRIES}", text(action.retries.as_ref()));
            self.add(place(action.retries.as_ref()), "retries", message);
        }
        for (key, value) in [("if", action.condition.as_ref()), ("background", action.background.as_ref())] {
            if truth(value, true).is_none() {
                self.add(place(value), key, format!("{:?} is neither true nor false", text(value)));
            }
        }
        let own = action.namespaces.as_ref();
        for (key, value, words) in [
            ("namespaces.network", own.and_then(|own| own.network.as_ref()), &["host", "bridge", "none"][..]),
            ("namespaces.pid", own.and_then(|own| own.pid.as_ref()), &["host"][..]),
        ] {
            let known =
                words.contains(&text(value)) || text(value).strip_prefix("container:").is_some_and(|n| !n.is_empty());
            if !text(value).is_empty() && !known {
                let message = format!("{:?} is not one of {}, container:<name>", text(value), words.join(", "));
                self.add(place(value), key, message);
            }
        }
        let pid = own.and_then(|own| own.pid.as_ref());
        if !text(pid).is_empty() && !text(action.pid.as_ref()).is_empty() {
            self.add(place(pid), "namespaces.pid", "there is a pid already");
        }
    }

    fn action<'a>(&mut self, action: &'a Spanned<Action>, names: &mut HashSet<&'a str>) {
        let (start, action) = (line(action), &action.value);
        self.unique("action", action.name.as_ref(), start, names);
        self.seconds("timeout", action.timeout.as_ref());
        self.seconds("timeoutSeconds", action.timeout_seconds.as_ref());
        self.extras(start, action);
        let image = text(action.image.as_ref());
        if image.is_empty() {
            let line = action.image.as_ref().map_or(start, line);
            self.add(line, "image", format!("action {:?} has no image", text(action.name.as_ref())));
        } else if !is_reference(image) {
            let line = action.image.as_ref().map_or(start, line);
            self.add(line, "image", format!("{image:?} is no image reference"));
        }
    }
}

/// Whether a container engine could take this as the name of an image. What exactly is in it, the registry knows.
fn is_reference(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let tag_at = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
    let (path, tag) = tag_at.map_or((name, None), |at| (&name[..at], Some(&name[at + 1..])));
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let host_may_have = |(n, part): (usize, &str)| {
        // The first part can be a host with a port, or an IPv6 address.
        let upper = n == 0 && path.contains('/');
        !part.is_empty()
            && part.chars().all(|c| word(c) && (upper || !c.is_ascii_uppercase()) || upper && ":[]".contains(c))
    };
    path.split('/').enumerate().all(host_may_have)
        && tag.is_none_or(|tag| (1..=128).contains(&tag.len()) && tag.chars().all(word))
        && digest.is_none_or(|digest| {
            digest.split_once(':').is_some_and(|(algorithm, hex)| {
                !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
            })
        })
}
