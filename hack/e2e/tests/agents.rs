//! Several agents and their server as built: order across machines, both sides killed at any instant, and what an operator
//! is told meanwhile. Each action leaves a line in a witness file, so that none is lost or run twice unseen.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use site::{PATIENCE, Site, WORKER, sh};

const OTHER: &str = "52:54:00:12:34:02";

fn witnessed(site: &Site) -> Vec<String> {
    let text = fs::read_to_string(site.path("witness")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn witness(site: &Site, name: &str, more: &str) -> String {
    sh(name, &format!("echo {name} >> {}; {more}", site.path("witness").display()))
}

/// A workflow of tasks, each of one machine.
fn apply(site: &Site, name: &str, tasks: &[(&str, &str, String)]) {
    let mut text = String::new();
    for (i, worker) in [WORKER, OTHER].iter().enumerate() {
        text += &format!(
            "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: m{i}}}\n\
             spec: {{interfaces: [{{dhcp: {{mac: {worker:?}}}}}]}}\n---\n"
        );
    }
    text += &format!(
        "apiVersion: tinkerbell.org/v1alpha1\nkind: Template\nmetadata: {{name: {name}}}\nspec:\n  data: |\n    \
         name: {name}\n    tasks:\n"
    );
    for (task, worker, actions) in tasks {
        let actions: String = actions.lines().map(|line| format!("          {line}\n")).collect();
        text += &format!("      - name: {task}\n        worker: {worker:?}\n        actions:\n{actions}");
    }
    text += &format!(
        "---\napiVersion: tinkerbell.org/v1alpha1\nkind: Workflow\nmetadata: {{name: {name}}}\nspec: {{templateRef: {name}}}\n"
    );
    site.apply_text(name, &text);
}

#[test]
fn a_task_in_the_middle_is_the_other_machines_and_the_order_is_kept() {
    let mut site = Site::start();
    let first = witness(&site, "a", "") + &witness(&site, "b", "sleep 0.2");
    let middle = witness(&site, "c", "sleep 0.2") + &witness(&site, "d", "");
    let last = witness(&site, "e", "");
    apply(&site, "w", &[("one", WORKER, first), ("two", OTHER, middle), ("three", WORKER, last)]);
    let status = site.wait("w", "the turn of the other", |status| status["agentID"] == OTHER);
    assert_eq!((&status["state"], witnessed(&site)), (&"RUNNING".into(), vec!["a".to_owned(), "b".to_owned()]));
    site.start_agent(OTHER);
    let status = site.ended("w");
    assert_eq!(status["state"], "SUCCESS", "{status:#}");
    assert_eq!(witnessed(&site), ["a", "b", "c", "d", "e"]);
    let log = fs::read_to_string(site.path("agents.log")).unwrap();
    let waits = format!("waits for worker \"{OTHER}\"");
    assert!(log.contains(&waits) || log.contains("no workflow for worker"), "an agent that waits says for what: {log}");
}

#[test]
fn server_and_agent_killed_at_any_instant_lose_and_repeat_nothing() {
    let mut site = Site::start();
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for round in 0..8 {
        let names: Vec<String> = (0..5).map(|n| format!("r{round}-{n}")).collect();
        let actions: String = names.iter().map(|name| witness(&site, name, "sleep 0.1")).collect();
        let name = format!("w{round}");
        site.apply(&name, &actions);
        for _ in 0..3 {
            let mut bytes = [0; 2];
            random.read_exact(&mut bytes).unwrap();
            let [instant, who] = bytes;
            std::thread::sleep(Duration::from_millis(4 * u64::from(instant)));
            let (server, agent) = (who % 3 != 0, who % 3 != 1);
            if server {
                site.kill_server();
            }
            if agent {
                site.kill_agent(WORKER);
                site.start_agent(WORKER);
            }
            if server {
                site.start_server();
            }
        }
        let status = site.ended(&name);
        assert_eq!(status["state"], "SUCCESS", "{status:#}");
        let ran: Vec<String> =
            witnessed(&site).into_iter().filter(|it| it.starts_with(&format!("r{round}-"))).collect();
        assert_eq!(ran, names, "round {round}: {status:#}");
    }
}

#[test]
fn the_operator_sees_whether_an_agent_still_works() {
    let mut site = Site::start();
    let gate = site.path("gate").display().to_string();
    site.apply("w", &sh("a", &format!("while ! test -e {gate}; do sleep 0.05; done")));
    let heard = |site: &Site| {
        site.said(&["get", "workflow", "w"]).lines().find(|it| it.starts_with("Heard:")).map(str::to_owned)
    };
    let until = |site: &Site, what: &str, condition: &dyn Fn(&str) -> bool| {
        let start = Instant::now();
        while !heard(site).is_some_and(|line| condition(&line)) {
            assert!(start.elapsed() < PATIENCE, "{what}: {:?}", heard(site));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    until(&site, "it is heard", &|line| line.ends_with(" s ago"));
    site.kill_agent(WORKER);
    let seconds = |line: &str| line.split_whitespace().nth(1).and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
    until(&site, "it is silent", &|line| seconds(line) > 5.0);
    site.start_agent(WORKER);
    until(&site, "it is heard again", &|line| line.ends_with(" s ago") && seconds(line) < 5.0);
    fs::write(&gate, "").unwrap();
    assert_eq!(site.ended("w")["state"], "SUCCESS");
    assert_eq!(heard(&site), None, "of what has ended there is nothing to hear");
}
