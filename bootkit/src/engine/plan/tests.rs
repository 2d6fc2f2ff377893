//! The plan, from command lines to files and environment.

use super::*;

fn plan(text: &str) -> Plan {
    Plan::new(&Config { line: Cmdline::parse(text), ..Config::default() }, &Facts::default())
}

fn daemon(plan: &Plan) -> serde_json::Value {
    serde_json::from_slice(&plan.files[0].bytes).unwrap()
}

fn env(plan: &Plan) -> Vec<(&str, &str)> {
    plan.env.iter().map(|(name, value)| (*name, value.expose())).collect()
}

#[test]
fn registries_are_listed_and_absent_when_there_are_none() {
    let config = daemon(&plan("insecure_registries=a:5000,,http://b/c ironhook.registry_mirrors=http://m:1,https://n"));
    assert_eq!(config["insecure-registries"], json!(["a:5000", "b"]));
    assert_eq!(config["registry-mirrors"], json!(["http://m:1", "https://n"]));
    for text in ["", "insecure_registries=", "insecure_registries=, ironhook.registry_mirrors=,"] {
        let config = daemon(&plan(text));
        assert!(config.get("insecure-registries").is_none() && config.get("registry-mirrors").is_none(), "{text}");
    }
}

#[test]
fn the_socket_is_where_the_other_components_look_for_it() {
    let config = daemon(&plan(""));
    assert_eq!(config["hosts"], json!(["unix:///run/docker.sock"]));
    assert_eq!(SOCKET.replace("/run/", "/run/docker/"), spec::paths::DOCKER_SOCKET);
    assert_eq!((&config["live-restore"], &config["storage-driver"]), (&json!(true), &json!("overlay2")));
    assert_eq!((&config["default-runtime"], &config["log-driver"]), (&json!("crun"), &json!("local")));
}

#[test]
fn proxies_are_environment_only_spare_the_server_and_no_secret_is_anywhere() {
    let plan = plan(
        "HTTPS_PROXY=http://bob:hunter2@p:1 NO_PROXY=10.0.0.0/8 registry_password=hunter3 docker_registry=r grpc_authority=192.168.0.1:42113",
    );
    assert_eq!(env(&plan), [("HTTPS_PROXY", "http://bob:hunter2@p:1"), ("NO_PROXY", "10.0.0.0/8,192.168.0.1")]);
    for shown in [format!("{:?}", plan.files), format!("{plan:?}")] {
        assert!(!shown.contains("hunter"), "{shown}");
    }
    assert!(env(&self::plan("NO_PROXY=a grpc_authority=b:1")).is_empty(), "nothing to spare without a proxy");
}

#[test]
fn logs_go_to_syslog_and_stay_readable_here() {
    let facts = Facts { syslog: Some([10, 0, 0, 9].into()), ..Facts::default() };
    let config = |text| Config { line: Cmdline::parse(text), ..Config::default() };
    let at = |text| daemon(&Plan::new(&config(text), &facts));
    assert_eq!(at("syslog_host=log syslog_port=1514")["log-opts"]["syslog-address"], "udp://10.0.0.9:1514");
    assert_eq!(at("syslog_host=log")["log-opts"]["syslog-address"], "udp://10.0.0.9:514");
    assert_eq!(at("syslog_host=log")["log-opts"]["cache-disabled"], "false");
    let plan = plan("syslog_host=log");
    assert_eq!(daemon(&plan)["log-driver"], "local");
    assert!(plan.notes[0].starts_with("syslog_host=log has no address"));
}

#[test]
fn authorities_of_the_site_are_added_to_the_known_ones_and_those_of_a_registry_are_its_own() {
    let config = Config {
        line: Cmdline::parse("docker_registry=10.0.0.1:5000/path"),
        authorities: vec!["SITE\n".into()],
        registry_authorities: vec!["META".into()],
        one_registry: Some("ONE".into()),
        container_uuid: None,
    };
    let facts =
        Facts { authorities: "KNOWN\n".into(), certs: vec![("reg:1/ca.crt".into(), b"REG".into())], syslog: None };
    let plan = Plan::new(&config, &facts);
    let text =
        |path: &str| plan.files.iter().find(|f| f.path == path).map(|f| String::from_utf8_lossy(&f.bytes).into_owned());
    assert_eq!(text(AUTHORITIES).as_deref(), Some("KNOWN\nSITE\nMETA\n"));
    assert_eq!(text("/etc/docker/certs.d/10.0.0.1:5000/ca.crt").as_deref(), Some("ONE"));
    assert_eq!(text("/etc/docker/certs.d/reg:1/ca.crt").as_deref(), Some("REG"));
    assert!(env(&plan).contains(&("SSL_CERT_FILE", AUTHORITIES)));
    assert!(self::plan("").files.len() == 1 && env(&self::plan("")).is_empty());
}
