//! runtime.json, LinuxKit's file of what to do before a container is made, as a plan. Pure: what cannot be done
//! here is refused before anything is touched.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sys::mounts::{Flags, Mount};

/// The file, with Go's habit of writing null for an empty list.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    #[serde(default)]
    cgroups: Option<Vec<String>>,
    #[serde(default)]
    mounts: Option<Vec<MountEntry>>,
    #[serde(default)]
    mkdir: Option<Vec<PathBuf>>,
    #[serde(default)]
    interfaces: Option<Vec<serde_json::Value>>,
    #[serde(default, rename = "bindNS")]
    bind_ns: Option<std::collections::BTreeMap<String, Option<String>>>,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct MountEntry {
    destination: PathBuf,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    source: PathBuf,
    #[serde(default)]
    options: Option<Vec<String>>,
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Make a directory and its parents.
    Directory(PathBuf),
    /// Mount something.
    Mount(Mount),
    /// Set how mounts travel.
    Propagation(PathBuf, Flags),
}

/// runtime.json asks for what this init does not do.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A key of LinuxKit that is not supported.
    #[error("{}/runtime.json: {key} is not supported by this init; leave it empty", bundle.display())]
    Unsupported {
        /// The bundle.
        bundle: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// A path that is not absolute.
    #[error("{}/runtime.json: {key} {} is not an absolute path", bundle.display(), path.display())]
    Relative {
        /// The bundle.
        bundle: PathBuf,
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
    },
}

impl Runtime {
    /// What to do, in order: mounts before directories, for a directory may be wanted on a mount.
    pub fn plan(self, bundle: &Path) -> Result<Vec<Step>, PlanError> {
        let unsupported = |key| Err(PlanError::Unsupported { bundle: bundle.to_owned(), key });
        if self.interfaces.is_some_and(|list| !list.is_empty()) {
            return unsupported("interfaces");
        }
        if self.bind_ns.is_some_and(|all| all.values().flatten().any(|path| !path.is_empty())) {
            return unsupported("bindNS");
        }
        if self.namespace.is_some_and(|name| !name.is_empty()) {
            return unsupported("namespace");
        }
        let absolute = |key, path: PathBuf| {
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(PlanError::Relative { bundle: bundle.to_owned(), key, path })
            }
        };
        let mut steps = Vec::new();
        for entry in self.mounts.unwrap_or_default() {
            absolute("mount", entry.destination.clone())?;
            steps.extend(entry.plan());
        }
        for path in self.mkdir.unwrap_or_default() {
            steps.push(Step::Directory(absolute("mkdir", path)?));
        }
        for group in self.cgroups.unwrap_or_default() {
            steps.push(Step::Directory(Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'))));
        }
        Ok(steps)
    }
}

impl MountEntry {
    fn plan(self) -> Vec<Step> {
        let options = Options::parse(&self.options.unwrap_or_default());
        let target = self.destination;
        let mut steps = vec![Step::Directory(target.clone())];
        steps.extend(options.directories.into_iter().map(Step::Directory));
        // "remount, private" is LinuxKit's way to ask for the second only.
        if !(options.flags.contains(Flags::MS_REMOUNT) && options.propagation.is_some()) {
            let bind = options.flags.contains(Flags::MS_BIND);
            let (kind, first) =
                if bind { (String::new(), options.flags & bind_flags()) } else { (self.kind, options.flags) };
            let mount = Mount { source: self.source, target: target.clone(), kind, flags: first, data: options.data };
            steps.push(Step::Mount(mount.clone()));
            // The kernel looks at the other flags of a bind only when it is mounted again.
            if bind && !(options.flags - first).is_empty() {
                let flags = (options.flags - Flags::MS_REC) | Flags::MS_REMOUNT;
                steps.push(Step::Mount(Mount { flags, ..mount }));
            }
        }
        steps.extend(options.propagation.map(|flags| Step::Propagation(target, flags)));
        steps
    }
}

fn bind_flags() -> Flags {
    Flags::MS_BIND | Flags::MS_REC | Flags::MS_REMOUNT
}

/// mount(8)'s options, sorted into what the kernel takes where.
struct Options {
    flags: Flags,
    propagation: Option<Flags>,
    data: String,
    /// Directories that an overlay writes to.
    directories: Vec<PathBuf>,
}

impl Options {
    fn parse(options: &[String]) -> Self {
        let mut parsed =
            Self { flags: Flags::empty(), propagation: None, data: String::new(), directories: Vec::new() };
        for option in options {
            if let Some(flags) = propagation(option) {
                parsed.propagation = Some(flags);
            } else if let Some(flags) = flag(option) {
                parsed.flags |= flags;
            } else if !is_default(option) {
                if let Some(("upperdir" | "workdir", path)) = option.split_once('=') {
                    parsed.directories.push(path.into());
                }
                if !parsed.data.is_empty() {
                    parsed.data.push(',');
                }
                parsed.data.push_str(option);
            }
        }
        parsed
    }
}

fn propagation(option: &str) -> Option<Flags> {
    Some(match option {
        "private" => Flags::MS_PRIVATE,
        "rprivate" => Flags::MS_PRIVATE | Flags::MS_REC,
        "shared" => Flags::MS_SHARED,
        "rshared" => Flags::MS_SHARED | Flags::MS_REC,
        "slave" => Flags::MS_SLAVE,
        "rslave" => Flags::MS_SLAVE | Flags::MS_REC,
        "unbindable" => Flags::MS_UNBINDABLE,
        "runbindable" => Flags::MS_UNBINDABLE | Flags::MS_REC,
        _ => return None,
    })
}

fn flag(option: &str) -> Option<Flags> {
    Some(match option {
        "bind" => Flags::MS_BIND,
        "rbind" => Flags::MS_BIND | Flags::MS_REC,
        "remount" => Flags::MS_REMOUNT,
        "ro" => Flags::MS_RDONLY,
        "nosuid" => Flags::MS_NOSUID,
        "nodev" => Flags::MS_NODEV,
        "noexec" => Flags::MS_NOEXEC,
        "noatime" => Flags::MS_NOATIME,
        "nodiratime" => Flags::MS_NODIRATIME,
        "relatime" => Flags::MS_RELATIME,
        "strictatime" => Flags::MS_STRICTATIME,
        "sync" => Flags::MS_SYNCHRONOUS,
        "dirsync" => Flags::MS_DIRSYNC,
        "mand" => Flags::MS_MANDLOCK,
        "silent" => Flags::MS_SILENT,
        _ => return None,
    })
}

/// What holds anyway.
fn is_default(option: &str) -> bool {
    matches!(
        option,
        "rw" | "suid"
            | "dev"
            | "exec"
            | "async"
            | "atime"
            | "diratime"
            | "norelatime"
            | "nostrictatime"
            | "nomand"
            | "loud"
            | "defaults"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Vec<Step>, PlanError> {
        serde_json::from_str::<Runtime>(text).unwrap().plan(Path::new("/containers/services/x"))
    }

    fn mount(source: &str, target: &str, kind: &str, flags: Flags, data: &str) -> Step {
        let (source, target, kind, data) = (source.into(), target.into(), kind.into(), data.into());
        Step::Mount(Mount { source, target, kind, flags, data })
    }

    #[test]
    fn an_overlay_root_is_planned_as_linuxkit_means_it() {
        let steps = plan(
            r#"{"cgroups":null,"mkdir":["/run/x"],"bindNS":{"net":null},"mounts":[
            {"destination":"/c/tmp","type":"tmpfs","source":"tmpfs"},
            {"destination":"/c/tmp","options":["remount","private"]},
            {"destination":"/c/rootfs","type":"overlay","source":"overlay",
             "options":["lowerdir=/c/lower","upperdir=/c/tmp/upper","workdir=/c/tmp/work"]}]}"#,
        )
        .unwrap();
        let none = Flags::empty();
        assert_eq!(
            steps,
            [
                Step::Directory("/c/tmp".into()),
                mount("tmpfs", "/c/tmp", "tmpfs", none, ""),
                Step::Directory("/c/tmp".into()),
                Step::Propagation("/c/tmp".into(), Flags::MS_PRIVATE),
                Step::Directory("/c/rootfs".into()),
                Step::Directory("/c/tmp/upper".into()),
                Step::Directory("/c/tmp/work".into()),
                mount(
                    "overlay",
                    "/c/rootfs",
                    "overlay",
                    none,
                    "lowerdir=/c/lower,upperdir=/c/tmp/upper,workdir=/c/tmp/work"
                ),
                Step::Directory("/run/x".into()),
            ]
        );
    }

    #[test]
    fn a_read_only_bind_takes_two_mounts() {
        let steps =
            plan(r#"{"mounts":[{"destination":"/b","source":"/a","type":"bind","options":["rw","rbind","ro"]}]}"#);
        let bind = Flags::MS_BIND | Flags::MS_REC;
        assert_eq!(
            steps.unwrap(),
            [
                Step::Directory("/b".into()),
                mount("/a", "/b", "", bind, ""),
                mount("/a", "/b", "", Flags::MS_BIND | Flags::MS_RDONLY | Flags::MS_REMOUNT, ""),
            ]
        );
    }

    #[test]
    fn what_this_init_does_not_do_is_refused_by_key() {
        for (text, key) in [
            (r#"{"interfaces":[{"name":"eth0"}]}"#, "interfaces"),
            (r#"{"bindNS":{"net":"/run/netns/a"}}"#, "bindNS"),
            (r#"{"namespace":"k8s"}"#, "namespace"),
            (r#"{"mkdir":["relative"]}"#, "mkdir"),
        ] {
            let error = plan(text).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("/containers/services/x/runtime.json"), "{error}");
        }
    }

    #[test]
    fn groups_are_directories_of_the_one_hierarchy() {
        let steps = plan(r#"{"cgroups":["/podruntime"]}"#).unwrap();
        assert_eq!(steps, [Step::Directory("/sys/fs/cgroup/podruntime".into())]);
    }
}
