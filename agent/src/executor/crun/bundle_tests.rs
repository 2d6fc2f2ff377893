//! What crun is asked for, from images, actions and labels.

use serde_json::json;

use super::*;
use crate::job::tests::job;

fn request<'a>(action: &'a Action, config: &'a ImageConfig, privileges: &'a Privileges) -> Request<'a> {
    Request {
        action,
        config,
        privileges,
        own: Privileges::all().granted(),
        user: (0, 0),
        root: "/run/ironhook/root".into(),
        hostname: "h".into(),
        cgroup: Some("/ironhook/x".into()),
        workflow: "/worker/default/install".into(),
        events: "/worker/events/x".into(),
        network_files: vec![("/p/resolv.conf".into(), "/etc/resolv.conf")],
    }
}

fn action() -> Action {
    Action { volumes: vec![], pid: String::new(), ..job().action }
}

fn image() -> ImageConfig {
    ImageConfig {
        env: Some(vec!["PATH=/opt".into(), "A=image".into()]),
        entrypoint: Some(vec!["/tool".into()]),
        cmd: Some(vec!["default".into()]),
        ..ImageConfig::default()
    }
}

#[test]
fn the_action_replaces_what_it_may_and_adds_the_rest() {
    let mut action = Action { environment: vec!["A=action".into(), "B=2".into()], ..action() };
    let (config, privileges) = (image(), Privileges::default());
    let made = config_of(&action, &config, &privileges);
    assert_eq!(made["process"]["args"], json!(["/tool", "a"]));
    let env = json!(["PATH=/opt", "HOSTNAME=h", "A=action", "B=2", "IRONHOOK_EVENTS=/run/ironhook/events.jsonl"]);
    assert_eq!(made["process"]["env"], env);
    assert_eq!(made["linux"]["namespaces"].as_array().unwrap().len(), 4);
    action.command.clear();
    action.pid = "host".into();
    let made = config_of(&action, &config, &privileges);
    assert_eq!(made["process"]["args"], json!(["/tool", "default"]));
    assert!(!made["linux"]["namespaces"].to_string().contains("pid"));
    let failure = super::config(&request(&action, &ImageConfig::default(), &privileges)).unwrap_err();
    assert!(failure.code == "start" && failure.message.contains("names a program"), "{failure:?}");
}

fn config_of(action: &Action, config: &ImageConfig, privileges: &Privileges) -> Value {
    super::config(&request(action, config, privileges)).unwrap()
}

#[test]
fn privileges_decide_on_capabilities_devices_limits_and_filter() {
    let (action, config) = (action(), image());
    let plain = config_of(&action, &config, &Privileges::default());
    assert_eq!(plain["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert!(plain["linux"]["seccomp"]["syscalls"].is_array());
    assert_eq!(plain["linux"]["resources"]["devices"], json!([{"allow": false, "access": "rwm"}]));
    let all = config_of(&action, &config, &Privileges::all());
    assert_eq!((&all["linux"]["seccomp"], &all["linux"]["maskedPaths"]), (&Value::Null, &json!([])));
    assert_eq!(all["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    assert!(all["mounts"].to_string().contains(r#""destination":"/dev","options":["rbind","rslave"]"#));
    let declared = "cap:SYS_BOOT device:/dev/null:rw memory:64M pids:9 cpus:0.5".parse().unwrap();
    let some = config_of(&action, &config, &declared);
    let resources = &some["linux"]["resources"];
    assert_eq!(resources["memory"], json!({"limit": 64 << 20, "swap": 64 << 20}));
    assert_eq!((&resources["pids"]["limit"], &resources["cpu"]["quota"]), (&json!(9), &json!(50_000)));
    assert_eq!(some["linux"]["devices"], json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]));
    let mut without = request(&action, &config, &declared);
    without.cgroup = None;
    assert!(super::config(&without).unwrap_err().message.contains("no cgroup v2"));
}

#[test]
fn volumes_take_the_place_of_what_would_be_there_and_bad_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = dir.path().join("made/here");
    let volumes = vec!["/dev:/dev".to_owned(), format!("{}:/data:ro", fresh.display()), "/:/workflow".into()];
    let action = Action { volumes, ..action() };
    let made = config_of(&action, &image(), &Privileges::default());
    let mounts = made["mounts"].as_array().unwrap();
    let at = |target: &str| mounts.iter().filter(|mount| mount["destination"] == target).collect::<Vec<_>>();
    assert_eq!((at("/dev").len(), at("/dev")[0]["type"].as_str()), (1, Some("bind")));
    assert!(at("/dev/pts").is_empty() && at("/dev/shm").is_empty());
    assert_eq!((at("/workflow").len(), at("/workflow")[0]["source"].as_str()), (1, Some("/")));
    assert!(fresh.is_dir() && at("/data")[0]["options"] == json!(["rbind", "ro"]));
    for bad in ["name:/x", "/a", "/a:rel", "/a:/b:rshared", "/a:/../b", "/proc/no/such:/b"] {
        let action = Action { volumes: vec![bad.into()], ..action.clone() };
        let failure = super::config(&request(&action, &image(), &Privileges::default())).unwrap_err();
        assert!(failure.code == "bad_mount" && failure.message.contains(bad), "{failure:?}");
    }
}
