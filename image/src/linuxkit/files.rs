//! An entry of `files`, here and in component.yaml, becomes a node. Reads the host files that entries name.

use std::path::Path;

use thiserror::Error;

use super::ids::Ids;
use super::model::{Document, File, Metadata};
use crate::output;
use crate::tree::{Kind, Node};

/// An entry that cannot be added.
#[derive(Debug, Error)]
pub enum Error {
    /// It says nothing, or two things, or a value has no meaning.
    #[error("files entry `{path}`: {problem}")]
    Entry {
        /// Its path in the image.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An owner that is no container.
    #[error("files entry `{path}`: no container is called `{name}`, so there is no such id")]
    Owner {
        /// Its path in the image.
        path: String,
        /// As given.
        name: String,
    },
    /// Its source cannot be read.
    #[error("files entry `{path}` cannot be added")]
    Source {
        /// Its path in the image.
        path: String,
        /// Why.
        #[source]
        source: output::Error,
    },
    /// The merged YAML cannot be written down.
    #[error("files entry `{path}`: the merged YAML cannot be encoded: {message}")]
    Metadata {
        /// Its path in the image.
        path: String,
        /// Why.
        message: String,
    },
}

/// The node; nothing for an optional source that is not there. `document` is what `metadata` writes.
pub fn node(file: &File, ids: &Ids, document: Option<&Document>) -> Result<Option<Node>, Error> {
    let bad = |problem| Error::Entry { path: file.path.clone(), problem };
    let mode = match &file.mode {
        Some(text) => u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .ok_or_else(|| bad("`mode` is not octal up to 7777; write it in quotes"))?,
        None if file.directory => 0o755,
        None => 0o644,
    };
    let owner = |id| ids.number(id).map_err(|name| Error::Owner { path: file.path.clone(), name });
    let (uid, gid) = (owner(file.uid.as_ref())?, owner(file.gid.as_ref())?);
    let kind = match (file.directory, &file.contents, &file.source, &file.symlink, file.metadata) {
        (true, None, None, None, None) => Kind::Directory,
        (false, Some(text), None, None, None) => Kind::File(text.clone().into_bytes().into()),
        (false, None, None, Some(target), None) if !target.is_empty() => {
            return Ok(Some(Node { uid, gid, ..Node::symlink(target.clone()) }));
        }
        (false, None, Some(source), None, None) => {
            if file.optional && !Path::new(source).exists() {
                return Ok(None);
            }
            let read = output::read(Path::new(source));
            Kind::File(read.map_err(|source| Error::Source { path: file.path.clone(), source })?.into())
        }
        (false, None, None, None, Some(language)) => {
            let document = document.ok_or_else(|| bad("`metadata` has no meaning here"))?;
            let message = |message| Error::Metadata { path: file.path.clone(), message };
            let text = match language {
                Metadata::Json => serde_json::to_string_pretty(document).map_err(|error| message(error.to_string()))?,
                Metadata::Yaml => serde_saphyr::to_string(document).map_err(|error| message(error.to_string()))?,
            };
            Kind::File(text.into_bytes().into())
        }
        _ => return Err(bad("needs exactly one of `contents`, `source`, `symlink`, `metadata`, `directory: true`")),
    };
    Ok(Some(Node { kind, mode, uid, gid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(yaml: &str) -> Result<Option<Node>, Error> {
        let document: Document = crate::yaml::parse("test", "{services: [{name: web, image: x, uid: web}]}").unwrap();
        node(&crate::yaml::parse("test", yaml).unwrap(), &Ids::of(&document), Some(&document))
    }

    fn text(node: Node) -> String {
        match node.kind {
            Kind::File(content) => String::from_utf8(content.to_vec()).unwrap(),
            other => panic!("a {}", other.name()),
        }
    }

    #[test]
    fn every_form_of_an_entry() {
        let owned = made("{path: a, contents: x, mode: '4755', uid: web, gid: 5}").unwrap().unwrap();
        assert_eq!((owned.mode, owned.uid, owned.gid), (0o4755, 100, 5));
        assert_eq!(made("{path: a, directory: true}").unwrap().unwrap(), Node::directory(0o755));
        assert_eq!(made("{path: a, symlink: b}").unwrap().unwrap(), Node::symlink("b"));
        assert_eq!(text(made("{path: a, contents: ''}").unwrap().unwrap()), "");
        assert!(made("{path: a, source: /nowhere/at-all, optional: true}").unwrap().is_none());
        let json: serde_json::Value =
            serde_json::from_str(&text(made("{path: a, metadata: json}").unwrap().unwrap())).unwrap();
        assert_eq!(json["services"][0], serde_json::json!({"name": "web", "image": "x", "uid": "web"}));
        let yaml = text(made("{path: a, metadata: yaml}").unwrap().unwrap());
        let again: Document = crate::yaml::parse("metadata", &yaml).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), json);
    }

    #[test]
    fn nonsense_is_named_with_the_path() {
        for (yaml, expected) in [
            ("{path: a}", "files entry `a`: needs exactly one of"),
            ("{path: a, contents: x, directory: true}", "files entry `a`: needs exactly one of"),
            ("{path: a, contents: x, mode: '0999'}", "files entry `a`: `mode` is not octal"),
            ("{path: a, contents: x, uid: nobody}", "files entry `a`: no container is called `nobody`"),
            ("{path: a, source: /nowhere/at-all}", "files entry `a` cannot be added"),
        ] {
            let error = made(yaml).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
