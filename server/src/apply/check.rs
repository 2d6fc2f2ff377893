//! Documents, together with what is stored -> documents that hold, workflows rendered. Pure but for fresh ids.

use std::collections::HashMap;

use serde_json::Value;

use super::Mistake;
use super::read::{Spec, Written};
use crate::objects::hardware::HardwareSpec;
use crate::objects::template::TemplateSpec;
use crate::objects::workflow::{WorkflowSpec, WorkflowStatus};
use crate::objects::{Key, Kind, Object};
use crate::template::{Problem, data, document, parse, render, shape};
use crate::workflow::build::build;

/// A document that holds.
pub struct Checked {
    /// What it is called.
    pub key: Key,
    /// All of it.
    pub value: Value,
    /// Of a workflow: what it starts with.
    pub status: Option<WorkflowStatus>,
    /// Where it is written, for what is found later.
    pub place: (String, usize),
}

/// Checks all documents, or tells everything that is wrong.
pub fn check(written: Vec<Written>, stored: &[Object]) -> Result<Vec<Checked>, Vec<Mistake>> {
    let mut world = World { written: &written, stored, mistakes: Vec::new() };
    world.names();
    world.interfaces();
    let mut statuses: HashMap<Key, WorkflowStatus> = HashMap::new();
    for document in &written {
        match &document.spec {
            Spec::Hardware(_) => {}
            Spec::Template(text, first) => world.template(document, text, *first),
            Spec::Workflow(spec, line) => {
                if let Some(status) = world.workflow(document, spec, *line) {
                    statuses.insert(document.key.clone(), status);
                }
            }
        }
    }
    let mut mistakes = world.mistakes;
    if mistakes.is_empty() {
        return Ok(written
            .into_iter()
            .map(|w| Checked { status: statuses.remove(&w.key), key: w.key, value: w.value, place: (w.file, w.line) })
            .collect());
    }
    mistakes.sort();
    // The same slip shows in the template alone and in every workflow of it.
    mistakes.dedup_by(|b, a| (&a.file, a.line, &a.key) == (&b.file, b.line, &b.key));
    Err(mistakes)
}

struct World<'a> {
    written: &'a [Written],
    stored: &'a [Object],
    mistakes: Vec<Mistake>,
}

/// Where the text of a template stands.
enum Source {
    /// In this file, from this line on.
    File(String, usize),
    /// In the store; mistakes are told at the workflow that uses it.
    Store(String, usize),
}

impl<'a> World<'a> {
    fn add(&mut self, file: &str, line: usize, key: &str, message: impl Into<String>) {
        let Problem { line, key, message } = Problem::new(line, key, message);
        self.mistakes.push(Mistake { file: file.to_owned(), line, key, message });
    }

    fn names(&mut self) {
        let mut seen: HashMap<&Key, &Written> = HashMap::new();
        for document in self.written {
            if let Some(first) = seen.insert(&document.key, document) {
                let message = format!("{} is there twice, first in {}:{}", document.key, first.file, first.line);
                self.add(&document.file, document.line, "metadata.name", message);
            }
        }
    }

    /// A MAC or IP address belongs to one machine; DHCP could not tell them apart otherwise.
    fn interfaces(&mut self) {
        let replaced = |key: &Key| self.written.iter().any(|written| written.key == *key);
        let mut owners: HashMap<String, Key> = HashMap::new();
        for object in self.stored.iter().filter(|o| o.key.kind == Kind::Hardware && !replaced(&o.key)) {
            if let Ok(spec) = object.spec::<HardwareSpec>() {
                owners.extend(addresses(&spec).map(|(_, address)| (address, object.key.clone())));
            }
        }
        for document in self.written {
            let Spec::Hardware(spec) = &document.spec else { continue };
            for (key, address) in addresses(spec) {
                if let Some(owner) = owners.insert(address.clone(), document.key.clone()) {
                    let message = format!("{address} belongs to {owner} already");
                    self.add(&document.file, document.line, key, message);
                }
            }
        }
    }

    fn template(&mut self, document: &Written, text: &str, first: usize) {
        let problems = match parse::parse(text) {
            Ok(template) => shape::check(&template),
            Err(problems) => problems,
        };
        self.told(problems, &Source::File(document.file.clone(), first));
    }

    fn workflow(&mut self, document: &Written, spec: &WorkflowSpec, line: usize) -> Option<WorkflowStatus> {
        let file = &document.file;
        let before = self.mistakes.len();
        if let Some(mode) = spec.boot_options.as_ref().and_then(|b| b.boot_mode.as_deref())
            && mode != "netboot"
        {
            let message =
                format!("{mode:?} needs a BMC, which this server does not drive; netboot or nothing is possible");
            self.add(file, line, "spec.bootOptions.bootMode", message);
        }
        let hardware = spec.hardware_ref.as_ref().filter(|name| !name.is_empty()).map(|name| {
            let key = Key::new(Kind::Hardware, &document.key.namespace, name);
            self.find(&key).ok_or(key)
        });
        if let Some(Err(key)) = &hardware {
            self.add(file, line, "spec.hardwareRef", format!("{key} does not exist"));
        }
        let template = Key::new(Kind::Template, &document.key.namespace, &spec.template_ref);
        let found = self.text(&template, file, line);
        if found.is_none() {
            self.add(file, line, "spec.templateRef", format!("{template} does not exist"));
        }
        if self.mistakes.len() > before {
            return None;
        }
        let (text, source) = found?;
        match rendered(&text, spec, hardware.and_then(Result::ok)) {
            Err(problems) => self.told(problems, &source),
            Ok((document, workers)) => {
                let unknown = self.unknown_workers(&workers, &template.namespace);
                self.told(unknown, &source);
                if self.mistakes.len() == before {
                    return Some(build(&document, &mut || uuid::Uuid::now_v7().to_string()));
                }
            }
        }
        None
    }

    fn unknown_workers(&self, workers: &[(String, usize)], namespace: &str) -> Vec<Problem> {
        let written = self.written.iter().filter_map(|w| match &w.spec {
            Spec::Hardware(spec) => Some((&w.key, spec.worker_ids())),
            _ => None,
        });
        let kept = self.stored.iter().filter(|o| !self.written.iter().any(|w| w.key == o.key));
        let stored = kept.filter_map(|o| Some((&o.key, o.spec::<HardwareSpec>().ok()?.worker_ids())));
        let here = written.chain(stored).filter(|(key, _)| key.kind == Kind::Hardware && key.namespace == namespace);
        let known: Vec<String> = here.flat_map(|(_, ids)| ids).collect();
        let unknown = workers.iter().filter(|(id, _)| !known.contains(&crate::workflow::canonical_worker(id)));
        let message = |id: &str| {
            format!(
                "unknown worker {id:?}: no Hardware in namespace {namespace} has this MAC address, agentID or instance id"
            )
        };
        unknown.map(|(id, line)| Problem::new(*line, "worker", message(id))).collect()
    }

    /// The whole object, as it will be.
    fn find(&self, key: &Key) -> Option<&'a Value> {
        let written = self.written.iter().find(|w| w.key == *key).map(|w| &w.value);
        written.or_else(|| self.stored.iter().find(|o| o.key == *key).map(|o| &o.value))
    }

    fn text(&self, key: &Key, file: &str, line: usize) -> Option<(String, Source)> {
        let written = self.written.iter().find(|w| w.key == *key);
        if let Some(Written { spec: Spec::Template(text, first), file, .. }) = written {
            return Some((text.clone(), Source::File(file.clone(), *first)));
        }
        let stored = self.stored.iter().find(|o| o.key == *key)?;
        let spec: TemplateSpec = stored.spec().ok()?;
        Some((spec.data, Source::Store(file.to_owned(), line)))
    }

    fn told(&mut self, problems: Vec<Problem>, source: &Source) {
        for Problem { line, key, message } in problems {
            match source {
                Source::File(file, first) => {
                    self.add(file, if line == 0 { 0 } else { first + line - 1 }, &key, message)
                }
                Source::Store(file, at) => {
                    self.add(file, *at, &key, format!("{message} (line {line} of the stored Template)"));
                }
            }
        }
    }
}

type Workers = Vec<(String, usize)>;

fn rendered(
    text: &str,
    spec: &WorkflowSpec,
    hardware: Option<&Value>,
) -> Result<(document::Document, Workers), Vec<Problem>> {
    let template = parse::parse(text)?;
    let data = data::data(&spec.hardware_map, hardware).map_err(|e| vec![Problem::new(0, "", e.to_string())])?;
    let rendered = render::render(&template, &data).map_err(|problem| vec![problem])?;
    let document = document::parse(&rendered).map_err(|problem| vec![problem.keyed(text)])?;
    let problems = document.problems(&rendered);
    if !problems.is_empty() {
        return Err(problems);
    }
    let workers = document.tasks.iter().flatten().map(|task| {
        let worker = task.value.worker.as_ref();
        let line = worker.map_or(0, document::line);
        (document::text(worker).to_owned(), rendered.line(line))
    });
    let workers = workers.collect();
    Ok((document, workers))
}

fn addresses(spec: &HardwareSpec) -> impl Iterator<Item = (&'static str, String)> {
    spec.interfaces.iter().filter_map(|interface| interface.dhcp.as_ref()).flat_map(|dhcp| {
        let mac = dhcp.mac.map(|mac| ("mac", mac.to_string()));
        let ip = dhcp.ip.as_ref().map(|ip| ("address", ip.address.to_string()));
        mac.into_iter().chain(ip)
    })
}
