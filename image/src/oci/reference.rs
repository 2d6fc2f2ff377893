//! Image references as LinuxKit expands them. No tag is added: the text in the YAML and in the layout must agree.

/// The fully expanded form: `x:1` is `docker.io/library/x:1`, `a/x:1` is `docker.io/a/x:1`.
pub fn expand(reference: &str) -> String {
    match reference.split_once('/') {
        None => format!("docker.io/library/{reference}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_like_linuxkit() {
        for (short, full) in [
            ("x:1", "docker.io/library/x:1"),
            ("ironhook/init:dev", "docker.io/ironhook/init:dev"),
            ("quay.io/tinkerbell/x", "quay.io/tinkerbell/x"),
            ("localhost/x", "localhost/x"),
            ("registry:5000/x", "registry:5000/x"),
        ] {
            assert_eq!(expand(short), full);
            assert_eq!(expand(full), full);
        }
    }
}
