//! The bytes of a component image for given inputs. Components in a cache are kept for as long as their inputs and the
//! recipe's number are the same, so other bytes need another number.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Site, sha256};

#[test]
fn other_bytes_of_the_same_inputs_need_another_recipe() {
    let site = Site::ready();
    site.write(
        "components/step/component.yaml",
        "images: [{reference: test/step:1, entrypoint: [/x], env: [A=b], labels: {c: d}}]\n\
         files:\n- {path: /x, mode: \"0755\", contents: program}\n- {path: /y, symlink: x}\n- {path: /z, directory: true}\n",
    );
    site.succeed(&["component", "--lock", "debs.lock", "components/step"]);
    let index = std::fs::read_to_string(site.path().join("out/cache/oci/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let name = |entry: &&serde_json::Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"] == "docker.io/test/step:1"
    };
    let entry = index["manifests"].as_array().unwrap().iter().find(name).unwrap();
    let made = format!("{} {}", entry["digest"], entry["annotations"]["dev.ironhook.inputs"]);
    assert_eq!(
        sha256(made.as_bytes()),
        "851c52829e0cf77c87624673e773c59500374f72d6447c93141a1caba52cd029",
        "{made}: raise RECIPE in image/src/component/inputs.rs, then record this digest here"
    );
}
