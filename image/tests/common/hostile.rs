//! What any input has to survive: run by the fuzz targets of hack/fuzz on what they make up, and by fuzz_corpus.rs on the
//! seeds.

use image::linuxkit::bundle::{self, Bundles};
use image::linuxkit::ids::Ids;
use image::linuxkit::model::Document;
use image::linuxkit::stage::Places;
use image::oci::read::Image;
use image::oci::types::{ImageConfig, RootFs, RunConfig};
use image::tree::{Kind, Tree};
use image::{cpio, tar, yaml};

/// Any text is a LinuxKit YAML: read or refused in one line; what is read becomes a tree or an error, the same each time.
pub fn linuxkit(text: &str) {
    let document: Document = match yaml::parse("fuzz", text) {
        Ok(document) => document,
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("fuzz:") && told.lines().count() == 1, "{told}");
            return;
        }
    };
    assert_eq!(laid_out(&document, text), laid_out(&document, text));
}

fn laid_out(document: &Document, label: &str) -> Result<Tree, String> {
    let (mut places, mut bundles, ids) = (Places::default(), Bundles::default(), Ids::of(document));
    // The text is also tried as what it may be in an image: a label.
    let labels = Some([("org.mobyproject.config".to_owned(), label.to_owned())].into());
    let run = RunConfig { entrypoint: Some(vec!["/x".into()]), labels, ..RunConfig::default() };
    let rootfs = RootFs { kind: "layers".into(), diff_ids: Vec::new() };
    let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), config: run, rootfs };
    let labelled = Image { digest: String::new(), config, tree: Tree::default() };
    let mut plain = Image { digest: String::new(), config: labelled.config.clone(), tree: Tree::default() };
    plain.config.config.labels = None;
    for (index, container) in document.services.iter().chain(&document.onboot).enumerate() {
        let prefix = format!("containers/services/{index}");
        let _ = bundle::prepare(prefix.clone(), container, &labelled, &document.volumes);
        let prepared = bundle::prepare(prefix, container, &plain, &document.volumes).map_err(|e| e.to_string())?;
        bundles.add(&mut places, &prepared, &plain, &ids).map_err(|e| e.to_string())?;
    }
    Ok(places.tree)
}

/// Any bytes are two layers: each applied or refused; what came of it is a tree that an initramfs can hold.
pub fn layer(bytes: &[u8]) {
    let middle = bytes.len() / 1024 * 512;
    let mut tree = Tree::default();
    for layer in [&bytes[..middle], &bytes[middle..], bytes] {
        if tar::apply_layer(&mut tree, layer).is_err() {
            break;
        }
    }
    for (path, _) in tree.iter() {
        assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path}");
        if let Some((parent, _)) = path.rsplit_once('/') {
            assert!(tree.get(parent).is_some_and(|node| node.kind == Kind::Directory), "{path} has no parent");
        }
        let _ = tree.resolve(path);
    }
    let mut archive = Vec::new();
    let count = cpio::write(&tree, "/etc/ironhook/end", &mut archive).expect("what was read can be written");
    assert_eq!(count, tree.iter().count());
}
