//! Each key of a container, as it comes out in config.json.

use super::super::model::Container;
use super::*;

fn config(yaml: &str) -> Result<Value, Error> {
    let mut container: Container = crate::yaml::parse("test", yaml).unwrap();
    container.command.get_or_insert_with(|| vec!["/x".into()]);
    config_json("x", &container, &Ids::default())
}

#[test]
fn defaults_are_linuxkits() {
    let config = config("{}").unwrap();
    assert_eq!(config["ociVersion"], "1.2.1");
    assert_eq!(config["linux"]["namespaces"], json!([{"type": "pid"}, {"type": "mount"}]));
    assert_eq!(config["process"]["capabilities"]["bounding"], json!([]));
    let destinations: Vec<_> = config["mounts"].as_array().unwrap().iter().map(|m| m["destination"].clone()).collect();
    assert_eq!(destinations, ["/dev", "/dev/pts", "/proc", "/sys", "/sys/fs/cgroup"]);
}

#[test]
fn the_shape_of_a_privileged_service() {
    let config = config(
        "{capabilities: [all], net: host, pid: host, ipc: /run/ns/ipc, rootfsPropagation: shared,
          binds: ['/dev:/dev:rw,rslave', '/run/docker:/run'], devices: [{path: all, type: b}],
          mounts: [{type: cgroup2, source: cgroup2, destination: /sys/fs/cgroup, options: [rw]}],
          rlimits: ['nofile,1024,unlimited'], resources: {pids: {limit: 9}}}",
    )
    .unwrap();
    assert_eq!(config["process"]["capabilities"]["effective"].as_array().unwrap().len(), 41);
    assert_eq!(config["linux"]["namespaces"], json!([{"type": "ipc", "path": "/run/ns/ipc"}, {"type": "mount"}]));
    assert_eq!(config["mounts"][0]["options"], json!(["rw", "rslave", "rbind"]));
    assert_eq!(
        config["mounts"][3],
        json!({"destination": "/run", "type": "bind", "source": "/run/docker", "options": ["rw", "rbind", "rshared"]})
    );
    assert_eq!(config["mounts"][5]["type"], "cgroup2");
    let rule = json!({"allow": true, "type": "b", "access": "rwm"});
    assert_eq!(config["linux"]["resources"], json!({"pids": {"limit": 9}, "devices": [rule]}));
    assert_eq!(config["process"]["rlimits"][0], json!({"type": "RLIMIT_NOFILE", "soft": 1024, "hard": NO_LIMIT}));
}

#[test]
fn nonsense_is_named_with_container_and_key() {
    for (yaml, expected) in [
        ("{capabilities: [CAP_FLY]}", "container `x`, key `capabilities`: `CAP_FLY` is no capability"),
        ("{binds: [/a]}", "container `x`, key `binds`: `/a` is not"),
        ("{rlimits: ['nofile,many']}", "container `x`, key `rlimits`: `nofile,many`"),
        ("{rlimits: ['files,1,1']}", "container `x`, key `rlimits`: `files,1,1`"),
        ("{ambient: [CAP_FLY]}", "container `x`, key `ambient`: `CAP_FLY` is no capability"),
        ("{uid: nobody}", "container `x`, key `uid`: `nobody` is neither"),
        ("{additionalGids: [1, nobody]}", "container `x`, key `additionalGids`: `nobody` is neither"),
        ("{mounts: [{destination: /a, source: b}]}", "container `x`, key `mounts`: `/a` needs a `type`"),
        ("{mounts: [{type: ext4, source: /dev/a}]}", "container `x`, key `mounts`: `ext4` needs a `destination`"),
        ("{devices: [{path: /dev/x, type: c}]}", "container `x`, key `devices`: `/dev/x` needs"),
        ("{command: []}", "container `x`, key `command`"),
    ] {
        let error = config(yaml).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn users_groups_and_their_mappings() {
    let config = config(
        "{uid: 7, gid: root, additionalGids: [8, 9], userns: new, uidMappings: [{hostID: 1000, containerID: 0, size: 5}],
          gidMappings: [{hostID: 2000, containerID: 0, size: 6}]}",
    )
    .unwrap();
    assert_eq!(config["process"]["user"], json!({"uid": 7, "gid": 0, "additionalGids": [8, 9]}));
    assert_eq!(config["linux"]["namespaces"], json!([{"type": "pid"}, {"type": "user"}, {"type": "mount"}]));
    assert_eq!(config["linux"]["uidMappings"], json!([{"hostID": 1000, "containerID": 0, "size": 5}]));
    assert_eq!(config["linux"]["gidMappings"], json!([{"hostID": 2000, "containerID": 0, "size": 6}]));
}

#[test]
fn ambient_capabilities_are_in_the_bound_but_only_asked_ones_are_effective() {
    let config = config("{capabilities: [CAP_SYS_TIME], ambient: [CAP_CHOWN]}").unwrap();
    let sets = &config["process"]["capabilities"];
    assert_eq!((&sets["effective"], &sets["ambient"]), (&json!(["CAP_SYS_TIME"]), &json!(["CAP_CHOWN"])));
    for bound in ["bounding", "permitted", "inheritable"] {
        assert_eq!(sets[bound], json!(["CAP_CHOWN", "CAP_SYS_TIME"]), "{bound}");
    }
}

#[test]
fn limits_are_the_runtime_specifications() {
    let config = config(
        "{resources: {memory: {limit: 5, disableOOMKiller: true}, cpu: {shares: 6, cpus: 0-1}, blockio: {weight: 10},
          hugepageLimits: [{pageSize: 2MB, limit: 9}], network: {classID: 1}}, maskedPaths: [/a], readonlyPaths: [/b],
          sysctl: {net.ipv4.ip_forward: '1'}, oomScoreAdj: -500, noNewPrivileges: true, hostname: h, cwd: /w,
          env: [A=b], cgroupsPath: /c, rootfsPropagation: slave, annotations: {a: b}, tmpfs: ['/t:size=1k,mode=700'],
          readonly: true}",
    )
    .unwrap();
    let linux = &config["linux"];
    assert_eq!(
        linux["resources"],
        json!({"memory": {"limit": 5, "disableOOMKiller": true}, "cpu": {"shares": 6, "cpus": "0-1"},
            "blockIO": {"weight": 10}, "hugepageLimits": [{"pageSize": "2MB", "limit": 9}], "network": {"classID": 1}})
    );
    assert_eq!((&linux["maskedPaths"], &linux["readonlyPaths"]), (&json!(["/a"]), &json!(["/b"])));
    assert_eq!(linux["sysctl"], json!({"net.ipv4.ip_forward": "1"}));
    assert_eq!((&linux["cgroupsPath"], &linux["rootfsPropagation"]), (&json!("/c"), &json!("slave")));
    let process = &config["process"];
    assert_eq!((&process["cwd"], &process["env"]), (&json!("/w"), &json!(["A=b"])));
    assert_eq!((&process["oomScoreAdj"], &process["noNewPrivileges"]), (&json!(-500), &json!(true)));
    assert_eq!((&config["hostname"], &config["annotations"]), (&json!("h"), &json!({"a": "b"})));
    let mounts = config["mounts"].as_array().unwrap();
    let find = |path: &str| mounts.iter().find(|mount| mount["destination"] == path).unwrap();
    assert_eq!(find("/t")["options"], json!(["size=1k", "mode=700"]));
    assert!(
        find("/sys")["options"].as_array().unwrap().contains(&json!("ro")),
        "a read-only root has a read-only /sys"
    );
}

#[test]
fn a_mount_says_only_what_is_not_understood() {
    let config =
        config("{mounts: [{type: mqueue}, {source: devpts}, {destination: /dev, options: [size=1m]}]}").unwrap();
    let mounts = config["mounts"].as_array().unwrap();
    let find = |path: &str| mounts.iter().find(|mount| mount["destination"] == path).unwrap();
    assert_eq!(find("/dev/mqueue")["source"], "mqueue");
    assert_eq!(find("/dev/pts")["type"], "devpts");
    assert_eq!((&find("/dev")["type"], &find("/dev")["options"]), (&json!("tmpfs"), &json!(["size=1m"])));
}
