//! Who works and with what, from command lines.

use super::*;

const LEASE: Mac = Mac::new([2, 0, 0, 0, 0, 9]);

fn plan(text: &str) -> Result<Plan, String> {
    let config = Config { line: Cmdline::parse(text), ..Config::default() };
    Plan::new(&config, LEASE, None).map_err(|error| crate::chain(&error))
}

fn shown(env: &Env) -> Vec<String> {
    env.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect()
}

fn builtin(text: &str) -> Vec<String> {
    match plan(text).unwrap() {
        Plan::Builtin(env) => shown(&env),
        Plan::Image(image) => panic!("{text} asks for {}", image.image),
    }
}

fn image(text: &str) -> ImagePlan {
    match plan(text).unwrap() {
        Plan::Builtin(_) => panic!("{text} asks for the built-in agent"),
        Plan::Image(image) => image,
    }
}

#[test]
fn the_environment_is_the_one_of_the_field() {
    let text = "grpc_authority=10.0.0.1:42113 tinkerbell_tls=false worker_id=w1 hw_addr=02:00:00:00:00:01 \
                registry_username=bob registry_password=a=b= HTTP_PROXY=http://p:1 ironhook.worker=builtin";
    assert_eq!(
        builtin(text),
        [
            "TINKERBELL_GRPC_AUTHORITY=10.0.0.1:42113",
            "TINKERBELL_TLS=false",
            "TINKERBELL_INSECURE_TLS=false",
            "WORKER_ID=w1",
            "ID=w1",
            "REGISTRY_USERNAME=bob",
            "REGISTRY_PASSWORD=a=b=",
            "HTTP_PROXY=http://p:1",
            "NO_PROXY=10.0.0.1",
        ]
    );
    assert!(!format!("{:?}", plan(text).unwrap()).contains("a=b="));
}

#[test]
fn authorities_of_the_site_are_named_to_the_agent() {
    let config = Config { line: Cmdline::parse("grpc_authority=a:1"), ..Config::default() };
    let Plan::Builtin(env) = Plan::new(&config, LEASE, Some("/run/ca")).unwrap() else { panic!() };
    assert_eq!(shown(&env).last().map(String::as_str), Some("IRONHOOK_CA_FILE=/run/ca"));
}

#[test]
fn without_an_id_the_boot_interface_is_it_and_then_the_one_with_the_lease() {
    let id = |text| builtin(text).into_iter().find(|v| v.starts_with("WORKER_ID=")).unwrap();
    assert_eq!(id("grpc_authority=a:1 BOOTIF=01-02-00-00-00-00-AA"), "WORKER_ID=02:00:00:00:00:aa");
    assert_eq!(id("grpc_authority=a:1"), "WORKER_ID=02:00:00:00:00:09");
}

#[test]
fn tls_is_on_unless_it_is_switched_off() {
    let tls = |text| builtin(text).into_iter().find(|v| v.starts_with("TINKERBELL_TLS=")).unwrap();
    assert_eq!(tls("grpc_authority=a:1"), "TINKERBELL_TLS=true");
    assert_eq!(tls("grpc_authority=a:1 tinkerbell_tls="), "TINKERBELL_TLS=true");
    assert_eq!(tls("grpc_authority=a:1 tinkerbell_tls=0"), "TINKERBELL_TLS=false");
    assert_eq!(
        plan("grpc_authority=a:1 tinkerbell_tls=maybe").unwrap_err(),
        "tinkerbell_tls: \"maybe\" is not true or false"
    );
}

#[test]
fn whose_worker_it_is_follows_hooks_rule_unless_the_operator_decides() {
    for (text, name) in [
        ("tink_worker_image=r:5/w", "r:5/w:latest"),
        ("tink_worker_image=r:5/w:v1 docker_registry=q", "r:5/w:v1"),
        ("docker_registry=q:1/x/", "q:1/x/tink-worker:latest"),
        ("ironhook.worker=image docker_registry=q:1", "q:1/tink-worker:latest"),
    ] {
        assert_eq!(image(&format!("grpc_authority=a:1 {text}")).image, name, "{text}");
    }
    builtin("grpc_authority=a:1 ironhook.worker=builtin tink_worker_image=r/w docker_registry=r");
    assert_eq!(plan("ironhook.worker=x").unwrap_err(), "ironhook.worker: \"x\" is not builtin or image");
    assert!(plan("grpc_authority=a:1 ironhook.worker=image").unwrap_err().contains("neither tink_worker_image nor"));
    assert!(
        plan("grpc_authority=a:1 tink_worker_image=UPPER/")
            .unwrap_err()
            .starts_with("tink_worker_image or docker_registry: ")
    );
}

#[test]
fn an_image_gets_exactly_hooks_environment() {
    let text = "grpc_authority=a:1 tink_worker_image=r:5/w registry_password=p HTTP_PROXY=http://x worker_id=w";
    assert_eq!(
        shown(&image(text).env),
        [
            "DOCKER_REGISTRY=",
            "REGISTRY_USERNAME=",
            "REGISTRY_PASSWORD=p",
            "TINKERBELL_GRPC_AUTHORITY=a:1",
            "TINKERBELL_TLS=",
            "TINKERBELL_INSECURE_TLS=",
            "WORKER_ID=w",
            "ID=w",
            "HTTP_PROXY=http://x",
            "HTTPS_PROXY=",
            "NO_PROXY=",
        ]
    );
    let config = Config {
        line: Cmdline::parse("grpc_authority=a:1 docker_registry=r grpc_cert_url=http://r:42114/cert"),
        container_uuid: Some("i-1".into()),
        ..Config::default()
    };
    let Plan::Image(classic) = Plan::new(&config, LEASE, None).unwrap() else { panic!() };
    assert_eq!(shown(&classic.env)[11..], ["TINKERBELL_CERT_URL=http://r:42114/cert", "container_uuid=i-1"]);
}

#[test]
fn credentials_go_to_their_registry_only() {
    for (registry, name, sent) in [
        ("10.0.0.1:5000", "10.0.0.1:5000/tink-worker", true),
        ("reg.example/path", "reg.example/path/tink-worker:1", true),
        ("10.0.0.1:5000", "quay.io/tinkerbell/tink-worker", false),
        ("10.0.0.1", "10.0.0.1:5000/w", false),
        ("index.docker.io", "library/w", true),
    ] {
        let text = format!(
            "grpc_authority=a:1 tink_worker_image={name} docker_registry={registry} registry_username=u registry_password=p"
        );
        assert_eq!(image(&text).login.is_some(), sent, "{registry} {name}");
    }
}

#[test]
fn what_can_be_known_is_told_before_the_network_is_there() {
    let told = |text: &str| check(&Cmdline::parse(text)).map_err(|error| error.to_string());
    assert!(told("worker_id=a").unwrap_err().contains("grpc_authority is not on the kernel command line"));
    assert!(told("grpc_authority=a:1 tinkerbell_tls=maybe").is_err());
    assert_eq!(told("ironhook.config=http://a/b"), Ok(()));
    assert_eq!(told("grpc_authority=a:1"), Ok(()));
}
