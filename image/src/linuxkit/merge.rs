//! Who wins: the YAML over the image's label over the image's configuration, key by key.
//! `X.add` appends to what the label says and is ignored where the YAML says `X` itself. Pure.

use super::model::{BindNs, Container, Runtime};
use crate::oci::types::RunConfig;

/// The label of an image that holds defaults for its container.
pub const LABEL: &str = "org.mobyproject.config";

/// What the container is in the end.
pub fn merge(yaml: &Container, label: &Container, image: &RunConfig) -> Container {
    let mut merged = overlay(label, yaml);
    merged.capabilities =
        with_added(&yaml.capabilities, &label.capabilities, [&label.capabilities_add, &yaml.capabilities_add]);
    merged.binds = with_added(&yaml.binds, &label.binds, [&label.binds_add, &yaml.binds_add]);
    (merged.capabilities_add, merged.binds_add) = (None, None);
    let from_image = || {
        let entrypoint = image.entrypoint.clone().unwrap_or_default();
        Some(entrypoint.into_iter().chain(image.cmd.clone().unwrap_or_default()).collect())
    };
    merged.command = merged.command.or_else(from_image);
    merged.env = merged.env.or_else(|| image.env.clone());
    merged.cwd = merged.cwd.or_else(|| image.working_dir.clone()).filter(|cwd| !cwd.is_empty());
    merged
}

fn with_added(
    yaml: &Option<Vec<String>>,
    label: &Option<Vec<String>>,
    added: [&Option<Vec<String>>; 2],
) -> Option<Vec<String>> {
    if yaml.is_some() {
        return yaml.clone();
    }
    let all: Vec<String> = [label, added[0], added[1]].into_iter().flatten().flatten().cloned().collect();
    Some(all).filter(|all| !all.is_empty())
}

macro_rules! first_of {
    ($kind:ident, $upper:expr, $lower:expr, { $($whole:tt)* }, $($field:ident)*) => {
        $kind { $($field: $upper.$field.clone().or_else(|| $lower.$field.clone()),)* $($whole)* }
    };
}

fn overlay(lower: &Container, upper: &Container) -> Container {
    let runtime = overlay_runtime(&lower.runtime, &upper.runtime);
    // Every field is named, so a new key cannot be forgotten here.
    first_of!(Container, upper, lower, { runtime },
        name image command env cwd capabilities capabilities_add ambient binds binds_add mounts tmpfs devices net pid ipc
        uts userns hostname readonly masked_paths readonly_paths rootfs_propagation rlimits sysctl resources uid gid
        additional_gids uid_mappings gid_mappings cgroups_path oom_score_adj no_new_privileges annotations)
}

/// Key by key too.
fn overlay_runtime(lower: &Option<Runtime>, upper: &Option<Runtime>) -> Option<Runtime> {
    let (Some(lower), Some(upper)) = (lower, upper) else { return upper.clone().or_else(|| lower.clone()) };
    let (low, up) = (lower.bind_ns.clone().unwrap_or_default(), upper.bind_ns.clone().unwrap_or_default());
    let bind_ns = first_of!(BindNs, up, low, {}, cgroup ipc mnt net pid user uts);
    let bind_ns = Some(bind_ns).filter(|bind_ns| *bind_ns != BindNs::default());
    Some(first_of!(Runtime, upper, lower, { bind_ns }, cgroups mounts mkdir interfaces namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(yaml: &str) -> Container {
        crate::yaml::parse("test", yaml).unwrap()
    }

    fn image() -> RunConfig {
        let list = |text: &str| Some(vec![text.to_owned()]);
        RunConfig { entrypoint: list("/entry"), cmd: list("arg"), env: list("A=image"), ..RunConfig::default() }
    }

    #[test]
    fn yaml_wins_over_label_over_image_key_by_key() {
        let label = container("{net: host, env: [A=label], pid: host}");
        let merged = merge(&container("{name: x, net: new}"), &label, &image());
        assert_eq!(merged.net.as_deref(), Some("new"));
        assert_eq!(merged.pid.as_deref(), Some("host"));
        assert_eq!(merged.env.unwrap(), ["A=label"]);
        assert_eq!(merged.command.unwrap(), ["/entry", "arg"]);
        let merged = merge(&container("{command: [/other]}"), &label, &image());
        assert_eq!(merged.command.unwrap(), ["/other"]);
    }

    #[test]
    fn additions_extend_the_label_and_yield_to_the_key_itself() {
        let label = container("{binds: ['/a:/a'], capabilities: [CAP_NET_RAW]}");
        let merged = merge(&container("{binds.add: ['/b:/b'], capabilities.add: [CAP_NET_ADMIN]}"), &label, &image());
        assert_eq!(merged.binds.unwrap(), ["/a:/a", "/b:/b"]);
        assert_eq!(merged.capabilities.unwrap(), ["CAP_NET_RAW", "CAP_NET_ADMIN"]);
        let merged = merge(&container("{binds: ['/c:/c'], binds.add: ['/b:/b']}"), &label, &image());
        assert_eq!(merged.binds.unwrap(), ["/c:/c"]);
    }

    #[test]
    fn what_init_prepares_is_merged_key_by_key() {
        let label = container("{runtime: {mkdir: [/a], bindNS: {net: /run/n, pid: /run/p}}}");
        let merged = merge(&container("{runtime: {cgroups: [c], bindNS: {net: /run/m}}}"), &label, &image());
        let runtime = serde_json::to_value(merged.runtime.unwrap()).unwrap();
        let bind_ns = serde_json::json!({"net": "/run/m", "pid": "/run/p"});
        assert_eq!(runtime, serde_json::json!({"cgroups": ["c"], "mkdir": ["/a"], "bindNS": bind_ns}));
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line() {
        let error = crate::yaml::parse::<Container>("x.yml", "net: host\nbind:\n  - /a:/a\n").unwrap_err().to_string();
        assert!(error.starts_with("x.yml:2: ") && error.contains("bind"), "{error}");
    }
}
