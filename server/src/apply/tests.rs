//! Batches that hold and batches that do not: exact places, and a store that stays as it was.

use super::{ApplyError, File, Mode, apply, decode};
use crate::objects::workflow::{State, WorkflowStatus};
use crate::objects::{Key, Kind};
use crate::store::Store;
use crate::store::redb::RedbStore;

const HARDWARE: &str = "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata:\n  name: m1\nspec:\n  futureField: kept\n  disks: [{device: /dev/sda}]\n  interfaces:\n    - dhcp:\n        mac: 52:54:00:AA:00:01\n        hostname: 007\n        ip: {address: 10.0.0.2, netmask: 255.255.255.0, gateway: \"\"}\n        new_field: 1\n      netboot: {allowPXE: true}\n";
const TEMPLATE: &str = "# a comment\napiVersion: tinkerbell.org/v1alpha1\nkind: Template\nmetadata: {name: t1}\nspec:\n  data: |\n    name: install\n    tasks:\n      - name: os\n        worker: \"{{.device_1}}\"\n        actions:\n          - name: write\n            image: image-write:1\n            environment:\n              MODE: 0644\n              DISK: {{ index .Hardware.Disks 0 }}\n";
const WORKFLOW: &str = "apiVersion: tinkerbell.org/v1alpha1\nkind: Workflow\nmetadata: {name: w1}\nspec:\n  templateRef: t1\n  hardwareRef: m1\n  hardwareMap: {device_1: 52:54:00:aa:00:01}\n";

struct Fixture {
    store: RedbStore,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: RedbStore::open(&dir.path().join("s")).unwrap(), _dir: dir }
    }

    async fn apply(&self, texts: &[&str]) -> Result<Vec<&'static str>, Vec<String>> {
        let files =
            texts.iter().zip('a'..).map(|(text, name)| File { name: format!("{name}.yaml"), text: (*text).into() });
        match apply(&self.store, &files.collect::<Vec<_>>(), Mode::Apply).await {
            Ok(outcomes) => Ok(outcomes.into_iter().map(|(_, result)| result).collect()),
            Err(ApplyError::Mistakes(mistakes)) => {
                Err(mistakes.iter().map(|m| format!("{}:{}: {}: {}", m.file, m.line, m.key, m.message)).collect())
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn refused(&self, texts: &[&str]) -> Vec<String> {
        let before = *self.store.revision().borrow();
        let mistakes = self.apply(texts).await.unwrap_err();
        assert_eq!(*self.store.revision().borrow(), before, "something was stored");
        mistakes
    }

    fn get(&self, kind: Kind, name: &str) -> crate::objects::Object {
        decode(self.store.get(&Key::new(kind, "default", name)).unwrap().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_good_batch_is_stored_in_one_transaction_in_any_order() {
    let it = Fixture::new();
    let all = format!("{WORKFLOW}---\n{TEMPLATE}---\n{HARDWARE}");
    assert_eq!(it.apply(&[&all]).await.unwrap(), ["created", "created", "created"]);
    assert_eq!(*it.store.revision().borrow(), 1);
    assert_eq!(it.apply(&[&all]).await.unwrap(), ["unchanged", "unchanged", "unchanged"]);
    let hardware = it.get(Kind::Hardware, "m1").value;
    assert_eq!(hardware["spec"]["futureField"], "kept");
    let dhcp = &hardware["spec"]["interfaces"][0]["dhcp"];
    assert_eq!(
        (&dhcp["new_field"], &dhcp["hostname"], &dhcp["mac"]),
        (&1.into(), &"007".into(), &"52:54:00:aa:00:01".into())
    );
    let status: WorkflowStatus = it.get(Kind::Workflow, "w1").status().unwrap();
    assert_eq!(status.state, State::Pending);
    let action = &status.tasks[0].actions[0];
    assert_eq!((action.environment["MODE"].as_str(), action.environment["DISK"].as_str()), ("0644", "/dev/sda"));
    assert_eq!(action.timeout, 3600);
}

#[tokio::test]
async fn every_mistake_is_told_with_file_line_and_key() {
    let it = Fixture::new();
    let with = |from: &str, to: &str| {
        assert!(TEMPLATE.contains(from), "{from}");
        TEMPLATE.replace(from, to)
    };
    // After a first document in the same file, to see that lines are those of the file.
    let unknown =
        format!("{HARDWARE}---\n{}", with("image: image-write:1", "image: image-write:1\n            timout: 3"));
    let mistakes = it.refused(&[&unknown]).await;
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(
        mistakes[0].starts_with(r#"a.yaml:29: timout: unknown field "timout", known here: name, image"#),
        "{mistakes:?}"
    );

    let undefined = with("{{.device_1}}", "{{.device_2}}");
    assert_eq!(
        it.refused(&[HARDWARE, &undefined, WORKFLOW]).await,
        ["b.yaml:10: .device_2: undefined variable .device_2"]
    );
    let no_image = with("            image: image-write:1\n", "");
    assert_eq!(it.refused(&[&no_image]).await, [r#"a.yaml:12: image: action "write" has no image"#]);
    let foreign = WORKFLOW.replace("aa:00:01}", "aa:00:02}");
    let mistakes = it.refused(&[HARDWARE, TEMPLATE, &foreign]).await;
    assert!(mistakes[0].starts_with(r#"b.yaml:10: worker: unknown worker "52:54:00:aa:00:02""#), "{mistakes:?}");
    assert_eq!(
        it.refused(&[WORKFLOW]).await,
        [
            "a.yaml:5: spec.hardwareRef: Hardware default/m1 does not exist",
            "a.yaml:5: spec.templateRef: Template default/t1 does not exist",
        ]
    );
}

#[tokio::test]
async fn documents_of_the_wrong_shape_are_refused() {
    let it = Fixture::new();
    for (text, expected) in [
        (HARDWARE.replace("kind: Hardware", "kind: Machine"), "a.yaml:2: kind: \"Machine\" is not known here"),
        (HARDWARE.replace("v1alpha1", "v9"), "a.yaml:1: apiVersion: "),
        (HARDWARE.replace("name: m1", "name: M 1"), "a.yaml:4: metadata.name: "),
        (HARDWARE.replace("10.0.0.2", "10.0.0.256"), "a.yaml:12: ip: "),
        (HARDWARE.replace("52:54:00:AA:00:01", "52:54"), "a.yaml:10: mac: not a MAC address"),
        (HARDWARE.replace("spec:", "spac:"), "a.yaml:5: spac: unknown field"),
        (WORKFLOW.replace("hardwareMap", "hardwaremap"), "a.yaml:7: hardwaremap: unknown field"),
        ("a: [\n".to_owned(), "a.yaml:"),
        ("# nothing\n".to_owned(), "a.yaml:0: : there is no object in here"),
    ] {
        let mistakes = it.refused(&[&text]).await;
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(expected), "{expected}: {mistakes:?}");
    }
    let twice = it.refused(&[HARDWARE, HARDWARE]).await;
    assert!(
        twice.iter().any(|m| m.starts_with("b.yaml:4: metadata.name: Hardware default/m1 is there twice")),
        "{twice:?}"
    );
    let same = HARDWARE.replace("name: m1", "name: m2");
    let same = it.refused(&[HARDWARE, &same]).await;
    assert!(
        same.iter().any(|m| m.contains("mac: 52:54:00:aa:00:01 belongs to Hardware default/m1 already")),
        "{same:?}"
    );
}

#[tokio::test]
async fn a_workflow_under_way_keeps_its_spec() {
    let it = Fixture::new();
    it.apply(&[HARDWARE, TEMPLATE, WORKFLOW]).await.unwrap();
    // Waiting, it takes a new template with it.
    let slower = TEMPLATE.replace("image: image-write:1", "image: image-write:2");
    assert_eq!(it.apply(&[&slower, WORKFLOW]).await.unwrap(), ["configured", "configured"]);
    let mut object = it.get(Kind::Workflow, "w1");
    assert_eq!(object.value["status"]["tasks"][0]["actions"][0]["image"], "image-write:2");
    object.value["status"]["state"] = "RUNNING".into();
    let value = serde_json::to_vec(&object.value).unwrap();
    it.store.commit(vec![crate::store::Change::Update(object.key, object.revision, value)]).await.unwrap();
    assert_eq!(it.apply(&[WORKFLOW]).await.unwrap(), ["unchanged"]);
    let other = WORKFLOW.replace("hardwareMap: {", "hardwareMap: {x: y, ");
    let refused = it.refused(&[&other]).await;
    assert!(refused[0].contains("spec: the spec cannot change any more, the workflow is RUNNING"), "{refused:?}");
}

#[tokio::test]
async fn the_examples_of_the_manual_hold() {
    let it = Fixture::new();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let text = |name: &str| std::fs::read_to_string(dir.join("install").join(name)).unwrap();
    let all = ["hardware.yaml", "template.yaml", "workflow.yaml"].map(text);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(it.apply(&all).await.unwrap(), ["created"; 3]);
    crate::config::Config::read(&dir.join("serve.yaml")).unwrap();
}
