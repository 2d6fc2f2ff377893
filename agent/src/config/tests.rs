//! Both generations' names, precedence, and every problem at once.

use clap::Parser;

use super::*;

fn resolve(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let flags = Flags::try_parse_from(["ironhook-agent"].iter().chain(arguments)).unwrap();
    Config::resolve(flags, |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
}

const SERVER: (&str, &str) = ("TINKERBELL_GRPC_AUTHORITY", "10.0.0.1:42113");

#[test]
fn the_environment_of_a_classic_worker_is_enough() {
    let config = resolve(
        &[],
        &[
            SERVER,
            ("ID", "52:54:00:00:00:01"),
            ("DOCKER_REGISTRY", "10.0.0.1:5000"),
            ("REGISTRY_USERNAME", "admin"),
            ("REGISTRY_PASSWORD", "hunter2"),
            ("TINKERBELL_TLS", "false"),
        ],
    )
    .unwrap();
    assert_eq!(config.worker.as_str(), "52:54:00:00:00:01");
    assert_eq!(config.tls, Tls::Off);
    let credentials = config.credentials.clone().unwrap();
    assert_eq!((credentials.server.as_str(), credentials.password.expose()), ("10.0.0.1:5000", "hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_environment_of_a_newer_agent_is_enough() {
    let config = resolve(
        &[],
        &[
            ("AGENT_GRPC_SERVER", "tink:42113"),
            ("AGENT_ID", "a"),
            ("WORKER_ID", ""),
            ("AGENT_GRPC_INSECURE_TLS", "true"),
            ("DOCKER_HOST", "unix:///run/x.sock"),
        ],
    )
    .unwrap();
    assert_eq!((config.worker.as_str(), config.tls), ("a", Tls::Unverified));
    assert_eq!(config.sockets, [PathBuf::from("/run/x.sock")]);
}

#[test]
fn set_but_empty_is_unset_and_tls_is_on_by_default() {
    let config = resolve(&[], &[SERVER, ("ID", "a"), ("TINKERBELL_TLS", ""), ("RETRY_INTERVAL", "")]).unwrap();
    assert_eq!((config.tls, config.retry_interval), (Tls::Verified, Duration::from_secs(3)));
}

#[test]
fn a_flag_beats_a_variable() {
    let arguments = ["--id=b", "--tinkerbell-tls=false", "--retry-interval", "500ms"];
    let config = resolve(&arguments, &[SERVER, ("ID", "a"), ("TINKERBELL_TLS", "true")]).unwrap();
    assert_eq!((config.worker.as_str(), config.tls), ("b", Tls::Off));
    assert_eq!(config.retry_interval, Duration::from_millis(500));
    assert_eq!(resolve(&["--tinkerbell-tls"], &[SERVER, ("ID", "a")]).unwrap().tls, Tls::Verified);
}

#[test]
fn credentials_without_a_registry_go_nowhere() {
    let config = resolve(&[], &[SERVER, ("ID", "a"), ("REGISTRY_USERNAME", "admin")]).unwrap();
    assert!(config.credentials.is_none());
}

#[test]
fn without_an_id_the_lease_names_the_worker() {
    let dir = tempfile::tempdir().unwrap();
    let flag = format!("--run-dir={}", dir.path().display());
    let error = resolve(&[&flag], &[SERVER]).unwrap_err().to_string();
    assert!(error.contains("no worker id") && error.contains("lease.json"), "{error}");
    std::fs::write(
        dir.path().join("lease.json"),
        r#"{"interface":"eth0","mac":"52:54:00:AB:00:01","address":"10.0.0.9","prefix":24,"server":"10.0.0.1","seconds":60}"#,
    )
    .unwrap();
    assert_eq!(resolve(&[&flag], &[SERVER]).unwrap().worker.as_str(), "52:54:00:ab:00:01");
}

#[test]
fn every_problem_is_reported_at_once() {
    let error = resolve(
        &["--run-dir=/nonexistent", "--privileges=some"],
        &[
            ("TINKERBELL_GRPC_AUTHORITY", "http://a"),
            ("TINKERBELL_TLS", "maybe"),
            ("DOCKER_HOST", "tcp://a:1"),
            ("RETRY_INTERVAL", "3 s"),
            ("ID", "a b"),
        ],
    )
    .unwrap_err()
    .to_string();
    for part in [
        "TINKERBELL_GRPC_AUTHORITY: \"http://a\"",
        "TINKERBELL_TLS: \"maybe\"",
        "DOCKER_HOST: \"tcp://a:1\"",
        "RETRY_INTERVAL: \"3 s\"",
        "--privileges: \"some\"",
        "worker id \"a b\"",
    ] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
    assert!(!error.contains("no server"), "{error}");
    assert!(resolve(&["--id=a"], &[]).unwrap_err().to_string().contains("no server"));
}

#[test]
fn authorities_and_times() {
    for good in ["10.0.0.1:42113", "tink.example:1", "[2001:db8::1]:42113"] {
        assert!(authority(good).is_ok(), "{good}");
    }
    for bad in ["", "a", "a:", "a:0", "a:99999", "http://a:1", "a:1/b", "u@a:1", "2001:db8::1:42113"] {
        assert!(authority(bad).is_err(), "{bad}");
    }
    assert_eq!(duration("3").unwrap(), Duration::from_secs(3));
    for bad in ["", "s", "0s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h", "25h"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_word_that_the_command_line_takes_for_actions_is_understood() {
    let spec::cmdline::Kind::Choice(words) = spec::cmdline::IRONHOOK_ACTIONS.kind else { panic!("no choice") };
    for word in words {
        let config = resolve(&["--id=a"], &[SERVER, ("IRONHOOK_ACTIONS", word)]).unwrap();
        assert_eq!(config.builtin_actions, *word == "builtin", "{word}");
    }
}
