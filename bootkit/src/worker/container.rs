//! The container of a worker image: what Hook gives it, as the engine's API has it (wire reference §2, newest era).
//! Pure. Paths of the engine's side are those of its component.

use serde_json::{Value, json};

use super::plan::ImagePlan;

/// People look at it by this name.
pub const NAME: &str = "tink-worker";
/// In the engine's component, in the order of Hook.
const BINDS: [&str; 4] =
    ["/worker:/worker", "/var/run/docker.sock:/var/run/docker.sock", "/dev:/dev", "/host_root/run:/run"];

/// The body of the request that creates it.
pub fn spec(plan: &ImagePlan) -> Value {
    json!({
        "Image": plan.image,
        "Env": env(plan),
        "AttachStdout": true,
        "AttachStderr": true,
        "HostConfig": { "NetworkMode": "host", "Privileged": true, "Binds": BINDS },
    })
}

/// Whether a container that is there is the one that is wanted, and runs: then it is left alone.
pub fn is_wanted(found: &Value, plan: &ImagePlan, image_id: &str) -> bool {
    let wanted = env(plan);
    let has =
        |variable: &String| found["Config"]["Env"].as_array().is_some_and(|env| env.iter().any(|v| v == variable));
    found["State"]["Running"] == true
        && found["Image"] == image_id
        && found["Config"]["Image"] == plan.image.as_str()
        && wanted.iter().all(has)
}

fn env(plan: &ImagePlan) -> Vec<String> {
    plan.env.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::Secret;

    #[test]
    fn a_running_worker_is_kept_only_if_it_is_the_same() {
        let plan =
            ImagePlan { image: "r/w:1".into(), registry: "r".into(), login: None, env: vec![("ID", Secret::new("a"))] };
        let found = |running: bool, image: &str, id: &str| json!({"State": {"Running": running}, "Image": image, "Config": {"Image": "r/w:1", "Env": ["PATH=/", format!("ID={id}")]}});
        assert!(is_wanted(&found(true, "sha256:1", "a"), &plan, "sha256:1"));
        for other in
            [found(false, "sha256:1", "a"), found(true, "sha256:2", "a"), found(true, "sha256:1", "b"), json!({})]
        {
            assert!(!is_wanted(&other, &plan, "sha256:1"), "{other}");
        }
    }
}
