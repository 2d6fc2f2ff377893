//! Files -> documents of known kinds, each with the lines of what matters in it. Looks at one document at a time.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{File, Mistake};
use crate::objects::hardware::HardwareSpec;
use crate::objects::meta::{DEFAULT_NAMESPACE, Meta, name_problem};
use crate::objects::workflow::WorkflowSpec;
use crate::objects::{API_VERSION, Key, Kind, overlay};
use crate::template::Problem;
use crate::yaml;

/// One document.
pub struct Written {
    /// The name of its file.
    pub file: String,
    /// What it is called.
    pub key: Key,
    /// The line of `metadata`, in the file.
    pub line: usize,
    /// All of it, without `status`.
    pub value: Value,
    /// The part that is checked.
    pub spec: Spec,
}

/// The part of a document that is checked.
pub enum Spec {
    /// A machine.
    Hardware(Box<HardwareSpec>),
    /// The text of a template, and the line of the file on which it begins.
    Template(String, usize),
    /// A workflow, and the line of its `spec`.
    Workflow(WorkflowSpec, usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<Spanned<String>>,
    kind: Option<Spanned<String>>,
    metadata: Option<Spanned<Meta>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Whole<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    spec: Spanned<S>,
    #[serde(default, rename = "status")]
    _status: Option<IgnoredAny>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Data {
    data: Spanned<String>,
}

/// Reads all documents of all files, or tells what is wrong with any.
pub fn read(files: &[File]) -> Result<Vec<Written>, Vec<Mistake>> {
    let mut written = Vec::new();
    let mut mistakes = Vec::new();
    for file in files {
        for (offset, text) in documents(&file.text) {
            match document(file, offset, &text) {
                Ok(document) => written.push(document),
                Err(problem) => {
                    let Problem { line, key, message } = problem.keyed(&text);
                    let line = if line == 0 { 0 } else { offset + line };
                    mistakes.push(Mistake { file: file.name.clone(), line, key, message });
                }
            }
        }
    }
    if written.is_empty() && mistakes.is_empty() {
        let file = files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
        mistakes.push(Mistake { file, line: 0, key: String::new(), message: "there is no object in here".into() });
    }
    if mistakes.is_empty() { Ok(written) } else { Err(mistakes) }
}

/// The documents of a file that are not empty, with the number of lines before each. A line that begins with `---`
/// is never inside a block scalar, since those are indented.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut all = vec![(0, String::new())];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match line.strip_prefix("---") {
            Some(rest) if rest.trim_end().is_empty() || rest.starts_with(' ') => {
                all.push((number, format!("   {rest}")))
            }
            _ => all.iter_mut().last().into_iter().for_each(|(_, document)| document.push_str(line)),
        }
    }
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    all.retain(|(_, document)| !document.lines().all(blank));
    all
}

fn document(file: &File, offset: usize, text: &str) -> Result<Written, Problem> {
    let head: Head = yaml::one(text)?;
    let kind = kind(&head)?;
    let Some(metadata) = head.metadata else {
        return Err(Problem::new(1, "metadata", format!("this {kind} has no metadata")));
    };
    let metadata_line = line(&metadata);
    let meta = metadata.value;
    let namespace = meta.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    if let Some(problem) = name_problem(&meta.name) {
        return Err(Problem::new(metadata_line, "metadata.name", problem));
    }
    if let Some(problem) = name_problem(namespace) {
        return Err(Problem::new(metadata_line, "metadata.namespace", problem));
    }
    let key = Key::new(kind, namespace, &meta.name);
    let mut value: Value = yaml::one(text)?;
    let (spec, understood) = spec(kind, text, offset)?;
    overlay(&mut value["spec"], understood);
    let mut meta = serde_json::to_value(&meta).map_err(|e| Problem::new(metadata_line, "metadata", e.to_string()))?;
    meta["namespace"] = namespace.into();
    value["metadata"] = meta;
    if let Value::Object(map) = &mut value {
        map.remove("status");
    }
    Ok(Written { file: file.name.clone(), key, line: offset + metadata_line, value, spec })
}

fn kind(head: &Head) -> Result<Kind, Problem> {
    let Some(version) = &head.api_version else {
        return Err(Problem::new(1, "apiVersion", format!("apiVersion is missing (expected {API_VERSION})")));
    };
    if version.value != API_VERSION {
        let message = format!("{:?} is not known here (expected {API_VERSION})", version.value);
        return Err(Problem::new(line(version), "apiVersion", message));
    }
    let Some(kind) = &head.kind else {
        return Err(Problem::new(1, "kind", "kind is missing (expected Hardware, Template or Workflow)"));
    };
    Kind::from_name(&kind.value).ok_or_else(|| {
        let message = format!("{:?} is not known here (expected Hardware, Template or Workflow)", kind.value);
        Problem::new(line(kind), "kind", message)
    })
}

fn spec(kind: Kind, text: &str, offset: usize) -> Result<(Spec, Value), Problem> {
    match kind {
        Kind::Hardware => {
            let (spec, _) = whole::<HardwareSpec>(text)?;
            let value = to_value(&spec)?;
            Ok((Spec::Hardware(Box::new(spec)), value))
        }
        Kind::Workflow => {
            let (spec, line) = whole::<WorkflowSpec>(text)?;
            let value = to_value(&spec)?;
            Ok((Spec::Workflow(spec, offset + line), value))
        }
        Kind::Template => {
            let (Data { data }, _) = whole::<Data>(text)?;
            let start = offset + first_line(text, line(&data));
            let value = serde_json::json!({ "data": data.value });
            Ok((Spec::Template(data.value, start), value))
        }
    }
}

fn whole<S: DeserializeOwned>(text: &str) -> Result<(S, usize), Problem> {
    let whole: Whole<S> = yaml::one(text)?;
    let line = line(&whole.spec);
    Ok((whole.spec.value, line))
}

fn to_value(spec: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(spec).map_err(|error| Problem::new(0, "spec", error.to_string()))
}

/// Where the text of `data` begins: a block scalar's is told at its header, and begins on the next line.
fn first_line(text: &str, told: usize) -> usize {
    let header = text.lines().nth(told.saturating_sub(1)).unwrap_or_default();
    match header.split_once("data:") {
        Some((_, rest)) if rest.trim_start().starts_with(['|', '>']) => told + 1,
        _ => told,
    }
}

fn line<T>(value: &Spanned<T>) -> usize {
    usize::try_from(value.referenced.line()).unwrap_or(0)
}
