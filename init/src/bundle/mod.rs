//! Bundles as the image builder leaves them below `/containers`: what there is, in which order, and how each wants to
//! be treated. Running them is `container`'s.

mod prepare;
mod runtime;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use spec::stage;

pub use prepare::{PrepareError, release};
use runtime::{PlanError, Runtime, Step};

const CONTAINERS: &str = "/containers";

/// A bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A directory or file of it.
    #[error("read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// JSON that is none, or not of the right shape.
    #[error("parse {}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An annotation with a value that means nothing.
    #[error("{}: annotation {key} is {value:?}, expected {expected}", path.display())]
    Annotation {
        /// Which file.
        path: PathBuf,
        /// Which annotation.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// runtime.json asks for what is not possible.
    #[error("plan what to prepare")]
    Plan(#[from] PlanError),
    /// A bundle that asks for a terminal; nobody would sit at it.
    #[error("{}: process.terminal is true, which a container without a person cannot have", path.display())]
    Terminal {
        /// Which file.
        path: PathBuf,
    },
}

/// When a bundle is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Once, in order, before the services.
    Onboot,
    /// For as long as the machine is ours.
    Service,
    /// Once, in order, when the machine goes down.
    Onshutdown,
}

/// What to do when a service ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Restart {
    /// Start it again.
    #[default]
    Always,
    /// Start it again unless its exit status was 0.
    OnFailure,
    /// Leave it.
    Never,
}

/// One bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    /// As in the YAML, without the number of its turn.
    pub name: String,
    /// Its name among containers, unlike any other's.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// Of a service.
    pub restart: Restart,
    /// Whether its output also goes to the console.
    pub console: bool,
    /// Its files may be in the layer of stage two.
    pub second_stage: bool,
    /// What to do before the container is made.
    prepare: Vec<Step>,
}

/// The part of config.json that is ours to know.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    process: Process,
}

#[derive(Deserialize, Default)]
struct Process {
    #[serde(default)]
    terminal: bool,
}

impl Kind {
    fn directory(self) -> PathBuf {
        Path::new(CONTAINERS).join(match self {
            Self::Onboot => "onboot",
            Self::Service => "services",
            Self::Onshutdown => "onshutdown",
        })
    }
}

/// All bundles of a kind, in the order of their names, which begin with the number of their turn.
pub fn all(kind: Kind) -> Result<Vec<Bundle>, BundleError> {
    in_directory(&kind.directory(), kind)
}

fn in_directory(directory: &Path, kind: Kind) -> Result<Vec<Bundle>, BundleError> {
    let failed = |source| BundleError::Read { path: directory.to_owned(), source };
    let mut paths = match directory.read_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect::<Result<Vec<_>, _>>()?,
    };
    paths.sort();
    paths.into_iter().map(|path| Bundle::read(path, kind)).collect()
}

impl Bundle {
    fn read(path: PathBuf, kind: Kind) -> Result<Self, BundleError> {
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if kind == Kind::Service { id.clone() } else { without_number(&id).to_owned() };
        let file = path.join("config.json");
        let config: Config = read_json(&file)?;
        if config.process.terminal {
            return Err(BundleError::Terminal { path: file });
        }
        let annotation = |key: &'static str| config.annotations.get(key).map(String::as_str);
        let wrong = |key, value: &str, expected| {
            Err(BundleError::Annotation { path: file.clone(), key, value: value.to_owned(), expected })
        };
        let restart = match annotation("dev.ironhook.restart") {
            None => Restart::default(),
            Some("always") => Restart::Always,
            Some("on-failure") => Restart::OnFailure,
            Some("never") => Restart::Never,
            Some(value) => return wrong("dev.ironhook.restart", value, "always, on-failure or never"),
        };
        let console = match annotation("dev.ironhook.console") {
            // What runs once and in front of everybody is seen, unless it says otherwise.
            None => kind != Kind::Service,
            Some("true") => true,
            Some("false") => false,
            Some(value) => return wrong("dev.ironhook.console", value, "true or false"),
        };
        let second_stage = match annotation(stage::ANNOTATION) {
            None => false,
            Some(stage::SECOND) => true,
            Some(value) => return wrong(stage::ANNOTATION, value, stage::SECOND),
        };
        let runtime: Runtime = read_json(&path.join("runtime.json"))?;
        let prepare = runtime.plan(&path)?;
        Ok(Self { name, id, path, restart, console, second_stage, prepare })
    }

    /// Does what runtime.json asks for, before the container is made.
    pub fn prepare(&self) -> Result<(), PrepareError> {
        prepare::apply(&self.prepare)
    }
}

/// `000-cmdline` is the first to run, and called `cmdline`.
fn without_number(id: &str) -> &str {
    match id.split_once('-') {
        Some((number, name)) if number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => id,
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BundleError> {
    let text = std::fs::read(path).map_err(|source| BundleError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| BundleError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, id: &str, config: &str) {
        std::fs::create_dir_all(directory.join(id)).unwrap();
        std::fs::write(directory.join(id).join("config.json"), config).unwrap();
        std::fs::write(directory.join(id).join("runtime.json"), "{}").unwrap();
    }

    #[test]
    fn turns_come_from_numbers_and_names_do_not_hold_them() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "010-second", "{}");
        write(directory.path(), "002-first", "{}");
        let names: Vec<_> = in_directory(directory.path(), Kind::Onboot).unwrap().into_iter().map(|b| b.name).collect();
        assert_eq!(names, ["first", "second"]);
        assert_eq!(in_directory(&directory.path().join("none"), Kind::Onboot).unwrap(), []);
    }

    #[test]
    fn annotations_say_how_a_service_is_treated() {
        let directory = tempfile::tempdir().unwrap();
        write(
            directory.path(),
            "a",
            r#"{"annotations":{"dev.ironhook.restart":"never","dev.ironhook.console":"true"}}"#,
        );
        write(directory.path(), "b", r#"{"annotations":{"org.other":"x"}}"#);
        let bundles = in_directory(directory.path(), Kind::Service).unwrap();
        assert_eq!((bundles[0].restart, bundles[0].console), (Restart::Never, true));
        assert_eq!((bundles[1].restart, bundles[1].console), (Restart::Always, false));
    }

    #[test]
    fn a_value_without_meaning_is_refused_by_file_and_key() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a", r#"{"annotations":{"dev.ironhook.restart":"sometimes"}}"#);
        let error = in_directory(directory.path(), Kind::Service).unwrap_err().to_string();
        assert!(error.contains("a/config.json: annotation dev.ironhook.restart is \"sometimes\""), "{error}");
    }

    #[test]
    fn a_terminal_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a", r#"{"process":{"terminal":true}}"#);
        assert!(matches!(in_directory(directory.path(), Kind::Service), Err(BundleError::Terminal { .. })));
    }
}
