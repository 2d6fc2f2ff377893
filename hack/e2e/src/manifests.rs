//! Hardware, templates and workflows of the lab, as an operator would write them. Pure text.

use std::net::Ipv4Addr;

use spec::Mac;

use crate::network::ADDRESS;

/// A machine the server is told of.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Of the object.
    pub name: String,
    /// Of its network card.
    pub mac: Mac,
    /// Reserved for it.
    pub address: Ipv4Addr,
    /// Its hostname.
    pub hostname: String,
    /// For its first boot.
    pub user_data: String,
}

/// One action of a template.
#[derive(Debug, Clone)]
pub struct Step {
    /// Of the action.
    pub name: &'static str,
    /// Of the image in the lab's registry.
    pub image: &'static str,
    /// In order.
    pub environment: Vec<(&'static str, String)>,
}

impl Step {
    /// An action of the same name as its image.
    pub fn new<const N: usize>(name: &'static str, environment: [(&'static str, String); N]) -> Self {
        Self { name, image: name, environment: environment.into() }
    }
}

impl Hardware {
    /// Its document.
    pub fn yaml(&self) -> String {
        let Self { name, mac, address, hostname, user_data } = self;
        let user_data: String = user_data.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata:
  name: {name}
  namespace: default
spec:
  userData: |
{user_data}  disks:
    - device: /dev/vda
  metadata:
    instance:
      id: \"{mac}\"
      hostname: {hostname}
      ips:
        - address: {address}
          family: 4
          public: false
  interfaces:
    - dhcp:
        arch: x86_64
        hostname: {hostname}
        ip:
          address: {address}
          gateway: {ADDRESS}
          netmask: 255.255.255.0
        lease_time: 86400
        mac: \"{mac}\"
        uefi: false
      netboot:
        allowPXE: true
        allowWorkflow: true
"
        )
    }
}

/// A template with one task of these actions, and a workflow that runs it on a machine.
pub fn workflow(name: &str, hardware: &Hardware, steps: &[Step]) -> String {
    let actions: String = steps.iter().map(action).collect();
    let (mac, machine) = (hardware.mac, &hardware.name);
    format!(
        "apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata:
  name: {name}
  namespace: default
spec:
  data: |
    version: \"0.1\"
    name: {name}
    global_timeout: 7200
    tasks:
      - name: install
        worker: \"{{{{.device_1}}}}\"
        volumes:
          - /dev:/dev
          - /dev/console:/dev/console
        actions:
{actions}---
apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata:
  name: {name}
  namespace: default
spec:
  templateRef: {name}
  hardwareRef: {machine}
  hardwareMap:
    device_1: \"{mac}\"
"
    )
}

fn action(step: &Step) -> String {
    let indent = "          ";
    let Step { name, image, environment } = step;
    let mut text = format!(
        "{indent}- name: {name}\n{indent}  image: {ADDRESS}:5000/ironhook/{image}:latest\n{indent}  timeout: 3600\n"
    );
    if !environment.is_empty() {
        text += &format!("{indent}  environment:\n");
    }
    for (key, value) in environment {
        text += &format!("{indent}    {key}: {}\n", quoted(value));
    }
    text
}

/// A YAML scalar that stays the text it is. JSON strings are YAML's double-quoted ones.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// User-data that says hostname and marker on the console of the installed OS.
pub fn user_data(marker: &str) -> String {
    // Not the text itself: the line of the console must come from the command, not from somebody who prints it.
    format!("#cloud-config\nruncmd:\n  - [sh, -c, 'echo \"installed: $(hostname) {marker}\" >/dev/console']\n")
}

/// The line that [`user_data`] prints.
pub fn announcement(hostname: &str, marker: &str) -> String {
    format!("installed: {hostname} {marker}")
}

/// The actions that install the target image, given where it is and its digest.
pub fn installation(url: &str, sha256: &str) -> Vec<Step> {
    let disk = || ("DEST_DISK", "/dev/vda".to_owned());
    let sources = format!(
        "datasource:\n  Ec2:\n    metadata_urls: [\"http://{ADDRESS}:50061\"]\n    strict_id: false\n    max_wait: 120\n"
    );
    let data = r#"[{"label":"data","size":"rest","type":"linux"}]"#;
    vec![
        Step::new("disk-wipe", [disk()]),
        Step::new("image-write", [disk(), ("IMG_URL", url.into()), ("IMG_CHECKSUM", format!("sha256:{sha256}"))]),
        Step::new("disk-partition", [disk(), ("PARTITIONS", data.into())]),
        Step::new(
            "file-write",
            [
                ("DEST_DISK", "/dev/vda3".into()),
                ("FS_TYPE", "ext4".into()),
                ("DEST_PATH", "/etc/cloud/cloud.cfg.d/10_tinkerbell.cfg".into()),
                ("CONTENTS", sources),
                ("MODE", "0600".into()),
            ],
        ),
        Step::new("boot", [("BOOT_MODE", "reboot".into())]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_user_data_is_the_line_that_tests_wait_for() {
        let data = user_data("m4rk");
        assert!(!data.contains(&announcement("host", "m4rk")), "{data}");
    }

    #[test]
    fn contents_of_several_lines_stay_one_scalar() {
        assert_eq!(quoted("a: \"b\"\nc"), r#""a: \"b\"\nc""#);
    }
}
