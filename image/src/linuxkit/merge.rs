//! Who wins: the YAML over the image's label over the image's configuration, key by key.
//! `X.add` appends to what the label says and is ignored where the YAML says `X` itself. Pure.

use super::model::Container;
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
    ($upper:expr, $lower:expr, $($field:ident)*) => {
        Container { $($field: $upper.$field.clone().or_else(|| $lower.$field.clone()),)* }
    };
}

fn overlay(lower: &Container, upper: &Container) -> Container {
    // Every field is named, so a new key cannot be forgotten here.
    first_of!(upper, lower,
        name image command env cwd capabilities capabilities_add binds binds_add mounts tmpfs devices net pid ipc uts
        hostname readonly rootfs_propagation rlimits sysctl resources uid gid cgroups_path oom_score_adj
        no_new_privileges annotations runtime)
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
    fn an_unknown_key_is_told_with_its_line() {
        let error = crate::yaml::parse::<Container>("x.yml", "net: host\nbind:\n  - /a:/a\n").unwrap_err().to_string();
        assert!(error.starts_with("x.yml:2: ") && error.contains("bind"), "{error}");
    }
}
