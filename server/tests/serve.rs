//! The built program end to end: apply, the classic protocol under both names, failures, metadata, kill -9.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{HARDWARE, Server, TEMPLATE, WORKER, WORKFLOW, contexts, http, report, text};
use proto::ironhook::{ActionRef, FailureDetail, HelloRequest, Inventory, Phase, Progress, Timeline};
use proto::workflow::workflow_service_client::WorkflowServiceClient;
use proto::workflow::{State, WorkflowActionsRequest};
use tonic::Code;

const ALL: [(&str, &str); 3] = [("h.yaml", HARDWARE), ("t.yaml", TEMPLATE), ("w.yaml", WORKFLOW)];

fn started() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let applied = server.apply(dir.path(), &ALL);
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    (dir, server)
}

#[tokio::test]
async fn a_classic_worker_gets_from_waiting_to_success() {
    let (_dir, server) = started();
    let mut worker = server.classic().await;
    let fresh = contexts(&mut worker, WORKER).await;
    assert_eq!(fresh.len(), 1);
    assert_eq!((fresh[0].workflow_id.as_str(), fresh[0].current_action.as_str()), ("default/w1", ""));
    assert_eq!((fresh[0].current_action_index, fresh[0].total_number_of_actions), (0, 2));
    assert!(contexts(&mut worker, "52:54:00:00:00:99").await.is_empty());
    assert_eq!(contexts(&mut worker, "52-54-00-12-34-01").await.len(), 1, "another spelling of the same address");

    let actions =
        worker.get_workflow_actions(WorkflowActionsRequest { workflow_id: "default/w1".into() }).await.unwrap();
    let actions = actions.into_inner().action_list;
    assert_eq!(actions[0].environment, ["DISK=/dev/vda", "MODE=0644", "SHARED=action"]);
    assert_eq!((actions[0].timeout, actions[1].timeout), (3600, 60));
    assert_eq!(actions[1].volumes, ["/dev:/dev", "/run:/run"]);

    worker.report_action_status(report("first", State::Running)).await.unwrap();
    let again = contexts(&mut worker, WORKER).await;
    assert_eq!((again[0].current_action.as_str(), again[0].current_action_state()), ("first", State::Running));

    let early = worker.report_action_status(report("second", State::Running)).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);
    assert!(early.message().contains("os/second is not the current one, os/first is"), "{early}");
    let pending = worker.report_action_status(report("first", State::Pending)).await.unwrap_err();
    assert_eq!(pending.code(), Code::InvalidArgument);

    worker.report_action_status(report("first", State::Success)).await.unwrap();
    worker.report_action_status(report("first", State::Success)).await.unwrap();
    let next = contexts(&mut worker, WORKER).await;
    assert_eq!((next[0].current_action_index, next[0].current_action.as_str()), (1, "second"));
    assert_eq!(next[0].current_action_state(), State::Pending);
    // RUNNING may be left out.
    worker.report_action_status(report("second", State::Success)).await.unwrap();
    assert!(contexts(&mut worker, WORKER).await.is_empty());
    assert_eq!(server.workflow().await["status"]["state"], "SUCCESS");
    let watched = server.cli(&["watch", "w1", "--all"]);
    assert!(watched.status.success());
    assert!(text(&watched.stdout).contains("workflow default/w1 SUCCESS"), "{}", text(&watched.stdout));
}

#[tokio::test]
async fn workers_of_older_generations_call_the_old_name() {
    let (_dir, server) = started();
    let channel = server.channel().await;
    let path = |method: &str| {
        format!("{}{method}", proto::CLASSIC_PREFIX_OLD).parse::<tonic::codegen::http::uri::PathAndQuery>().unwrap()
    };
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let request = proto::workflow::WorkflowContextRequest { worker_id: WORKER.into() };
    let codec = tonic_prost::ProstCodec::<_, proto::workflow::WorkflowContext>::default();
    let stream = grpc.server_streaming(tonic::Request::new(request), path("GetWorkflowContexts"), codec).await.unwrap();
    let context = stream.into_inner().message().await.unwrap().unwrap();
    assert_eq!(context.workflow_id, "default/w1");
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<_, proto::workflow::Empty>::default();
    let told = report("first", State::Running);
    grpc.unary(tonic::Request::new(told), path("ReportActionStatus"), codec).await.unwrap();
    assert_eq!(server.workflow().await["status"]["state"], "RUNNING");
}

#[tokio::test]
async fn a_report_of_an_action_that_ended_otherwise_is_refused_to_those_who_understand_it() {
    let (_dir, server) = started();
    let mut worker = server.classic().await;
    worker.report_action_status(report("first", State::Running)).await.unwrap();
    worker.report_action_status(report("first", State::Timeout)).await.unwrap();
    for (state, refused) in [(State::Running, true), (State::Success, true), (State::Timeout, false)] {
        // A stock worker repeats a refused end for ever, so it is told OK; but never that it may begin.
        let stock = worker.report_action_status(report("first", state)).await;
        let begins = state == State::Running;
        assert_eq!(stock.map_err(|error| error.code()).err(), begins.then_some(Code::Aborted), "{state:?}");
        let mut ours = tonic::Request::new(report("first", state));
        ours.metadata_mut().insert(proto::AGENT_HEADER, "1".parse().unwrap());
        let answer = worker.report_action_status(ours).await;
        assert_eq!(answer.map_err(|error| error.code()).err(), refused.then_some(Code::Aborted), "{state:?}");
    }
    assert_eq!(server.workflow().await["status"]["state"], "TIMEOUT");
}

#[tokio::test]
async fn a_failure_is_told_with_its_reason() {
    let (_dir, server) = started();
    let (mut worker, mut machine) = (server.classic().await, server.machine().await);
    let hello = HelloRequest { worker_id: WORKER.into(), agent_version: "1".into(), ticket: String::new() };
    assert!(!machine.hello(hello).await.unwrap().into_inner().server_version.is_empty());
    worker.report_action_status(report("first", State::Running)).await.unwrap();
    let action = ActionRef {
        workflow_id: "default/w1".into(),
        task_name: "os".into(),
        action_name: "first".into(),
        worker_id: WORKER.into(),
        attempt: 1,
        action_id: String::new(),
    };
    let progress =
        Progress { action: Some(action.clone()), done: 1, total: 4, unit: "bytes".into(), ..Progress::default() };
    machine.report_progress(progress).await.unwrap();
    let phases = vec![Phase { name: "modules".into(), start_ms: 1, duration_ms: 2 }];
    let timeline = Timeline { worker_id: WORKER.into(), boot_id: "b".into(), phases };
    machine.report_timeline(timeline.clone()).await.unwrap();
    machine.report_timeline(timeline).await.unwrap();
    let detail = FailureDetail {
        action: Some(action),
        code: "truncated".into(),
        message: "1 of 4 bytes".into(),
        causes: vec!["connection reset".into()],
        exit_status: Some(3),
        log_tail: "one\ntwo\u{1b}[2J\n".into(),
    };
    machine.report_failure(detail).await.unwrap();
    assert_eq!(server.workflow().await["status"]["state"], "RUNNING");
    worker.report_action_status(report("first", State::Failed)).await.unwrap();

    let shown = text(&server.cli(&["get", "workflow", "w1"]).stdout);
    for part in
        ["State:     FAILED", "Code:    truncated", "Message: 1 of 4 bytes", "Cause:   connection reset", "Exit:    3"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains("    two\u{fffd}[2J"), "{shown:?}");
    let watched = server.cli(&["watch", "w1", "-o", "json", "--all"]);
    assert_eq!(watched.status.code(), Some(1));
    let watched = text(&watched.stdout);
    assert_eq!(watched.matches(r#""kind":"phase""#).count(), 1, "{watched}");
    assert!(watched.contains(r#""kind":"progress""#) && watched.contains(r#""machine":"default/m1""#), "{watched}");
    let last = watched.lines().last().unwrap();
    assert!(last.contains("os/first: truncated: 1 of 4 bytes: connection reset"), "{last}");
}

#[tokio::test]
async fn what_of_a_machine_is_not_at_work_is_shown_and_rubbish_refused() {
    let (_dir, server) = started();
    let mut machine = server.machine().await;
    // chassis {serial: "s"}
    let told = |devices: &[u8]| Inventory {
        worker_id: WORKER.into(),
        attributes: vec![0x3a, 3, 0x0a, 1, b's'],
        devices: devices.to_vec(),
    };
    let devices = serde_json::json!({
        "without_driver": [{"bus": "pci", "address": "0000:00:03.0", "id": "8086:100e", "class": "020000", "name": "NIC"}],
        "missing_firmware": [{"file": "e100/d102e_ucode.bin"}],
    });
    machine.report_inventory(told(devices.to_string().as_bytes())).await.unwrap();
    let path = "/apis/tinkerbell.org/v1alpha1/namespaces/default/hardware/m1/inventory";
    let shown = server.get(path).await;
    assert_eq!((&shown["devices"], &shown["chassis"]["serial"]), (&devices, &"s".into()));
    let padded = format!("{devices}{}", " ".repeat(64 << 10));
    for (rubbish, why) in [
        ("[[", "devices is no list of devices: "),
        (r#"{"without_driver":[{"bus":"isa"}]}"#, "devices is no list of devices: unknown variant `isa`"),
        (&padded, "devices has more than 65536 bytes"),
    ] {
        let refused = machine.report_inventory(told(rubbish.as_bytes())).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().starts_with(why), "{refused}");
    }
    assert_eq!(server.get(path).await, shown, "what is refused changes nothing");
    machine.report_inventory(told(b"")).await.unwrap();
    assert!(server.get(path).await["devices"].is_null());
}

#[tokio::test]
async fn killed_in_the_middle_it_forgets_nothing() {
    let (dir, server) = started();
    let mut worker = server.classic().await;
    worker.report_action_status(report("first", State::Running)).await.unwrap();
    worker.report_action_status(report("first", State::Success)).await.unwrap();
    worker.report_action_status(report("second", State::Running)).await.unwrap();
    let before = server.workflow().await;
    server.kill();

    let server = Server::start(dir.path());
    assert_eq!(server.workflow().await, before);
    let mut worker = server.classic().await;
    let context = contexts(&mut worker, WORKER).await.remove(0);
    assert_eq!((context.current_action_index, context.current_action_state()), (1, State::Running));
    // The answer to this one was lost with the server, so the worker says it again.
    worker.report_action_status(report("first", State::Success)).await.unwrap();
    worker.report_action_status(report("second", State::Success)).await.unwrap();
    assert_eq!(server.workflow().await["status"]["state"], "SUCCESS");
    let code = server.terminate();
    assert!(code.success(), "{code}");
}

/// Killed while requests are under way, again and again: whatever was acknowledged is there.
#[tokio::test]
async fn what_was_acknowledged_survives_any_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    assert!(server.apply(dir.path(), &[ALL[0], ALL[1]]).status.success());
    server.kill();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let server = Server::start(dir.path());
        let url = format!("{}/apis/tinkerbell.org/v1alpha1/namespaces/default/workflows", server.url("api"));
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let writer = tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            for n in 0.. {
                let name = format!("w{round}-{n}");
                let body = serde_json::json!({
                    "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Workflow", "metadata": {"name": name},
                    "spec": {"templateRef": "t1", "hardwareRef": "m1", "hardwareMap": {"device_1": WORKER}},
                });
                match client.post(&url).json(&body).send().await {
                    Ok(answer) => assert_eq!(answer.status(), 201),
                    Err(_) => return,
                }
                sender.send(name).unwrap();
            }
        });
        for _ in 0..10 {
            acknowledged.push(answers.recv().await.expect("the server went away by itself"));
        }
        server.kill();
        writer.await.unwrap();
        while let Some(name) = answers.recv().await {
            acknowledged.push(name);
        }
        let server = Server::start(dir.path());
        let list = server.get("/apis/tinkerbell.org/v1alpha1/workflows").await;
        let items = list["items"].as_array().unwrap();
        let names: Vec<_> = items.iter().map(|w| w["metadata"]["name"].as_str().unwrap()).collect();
        assert!(acknowledged.iter().all(|name| names.contains(&name.as_str())), "{acknowledged:?} {names:?}");
    }
}

#[tokio::test]
async fn refused_at_apply_with_place_and_nothing_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    for (from, to, expected) in [
        ("            timeout: 60", "            timout: 60", r#"t.yaml:24: timout: unknown field "timout""#),
        ("{{.device_1}}", "{{.device_9}}", "t.yaml:11: .device_9: undefined variable .device_9"),
        ("            image: two:2\n", "", r#"t.yaml:22: image: action "second" has no image"#),
    ] {
        let broken = TEMPLATE.replace(from, to);
        let refused = server.apply(dir.path(), &[ALL[0], ("t.yaml", &broken), ALL[2]]);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(said.lines().next().unwrap().contains(expected), "{said}");
        assert!(said.ends_with("nothing is stored\n"), "{said}");
        for kind in ["hardware", "templates", "workflows"] {
            let list = server.get(&format!("/apis/tinkerbell.org/v1alpha1/{kind}")).await;
            assert_eq!(
                (list["items"].as_array().unwrap().len(), list["metadata"]["resourceVersion"].as_str()),
                (0, Some("0"))
            );
        }
    }
    assert_eq!(server.cli(&["get", "machines"]).status.code(), Some(2));
    assert_eq!(server.cli(&["get", "hardware", "nobody"]).status.code(), Some(1));
    assert_eq!(
        text(&server.cli(&["get", "hardware", "nobody"]).stderr),
        "ironhook: Hardware default/nobody does not exist\n"
    );
}

#[tokio::test]
async fn metadata_by_address_as_cloud_init_asks() {
    let (_dir, server) = started();
    for service in ["metadata", "http"] {
        let get = |path: &'static str| {
            let url = format!("{}{path}", server.url(service));
            async move { http(&url).await }
        };
        assert_eq!(get("/2009-04-04/").await, (200, "meta-data/\nuser-data".into()), "{service}");
        assert_eq!(get("/latest/user-data").await, (200, "#cloud-config\nmarker: 1\n".into()));
        assert_eq!(get("/2009-04-04/meta-data/instance-id").await, (200, "i-42".into()));
        assert_eq!(get("/2009-04-04/meta-data/local-hostname").await.1, "host-42");
        assert_eq!(get("/2009-04-04/meta-data/local-ipv4").await.1, "127.0.0.1");
        assert_eq!(get("/2009-04-04/meta-data/public-keys").await.1, "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two");
        assert_eq!(get("/2009-04-04/meta-data/operating-system/slug/").await.1, "debian_13");
        assert!(get("/2009-04-04/meta-data/").await.1.contains("\noperating-system/\nplan\n"));
        assert_eq!(get("/2009-04-04/meta-data/nothing").await.0, 404);
        assert_eq!(get("/2021-03-23/meta-data/instance-id").await.0, 404);
        let hack: serde_json::Value = get("/metadata").await.1.parse().unwrap();
        assert!(hack["metadata"]["instance"]["storage"].is_object(), "{hack}");
    }
    // A machine that nobody has described is told nothing.
    assert!(server.cli(&["delete", "hardware", "m1"]).status.success());
    let url = format!("{}/2009-04-04/", server.url("metadata"));
    let mut answer = http(&url).await;
    for _ in 0..1000 {
        if answer.0 == 404 {
            break;
        }
        tokio::task::yield_now().await;
        answer = http(&url).await;
    }
    assert_eq!(answer, (404, "no Hardware has the address 127.0.0.1\n".into()));
}

#[tokio::test]
async fn objects_can_be_watched_and_changed_like_those_of_kubernetes() {
    let (_dir, server) = started();
    let base = format!("{}/apis/tinkerbell.org/v1alpha1/namespaces/default/hardware", server.url("api"));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut watch = client.get(format!("{base}?watch=true")).send().await.unwrap();
    let mut object = server.get("/apis/tinkerbell.org/v1alpha1/namespaces/default/hardware/m1").await;
    object["metadata"]["labels"] = serde_json::json!({"rack": "1"});
    let put = client.put(format!("{base}/m1")).json(&object).send().await.unwrap();
    assert_eq!(put.status(), 200, "{}", put.text().await.unwrap());
    let late = client.put(format!("{base}/m1")).json(&object).send().await.unwrap();
    assert_eq!(late.status(), 409);
    let status: serde_json::Value = late.text().await.unwrap().parse().unwrap();
    assert_eq!((status["kind"].as_str(), status["reason"].as_str()), (Some("Status"), Some("Conflict")));
    let old = client.get(format!("{base}?watch=true&resourceVersion=99999999999999999999")).send().await.unwrap();
    assert_eq!(old.status(), 400);
    for body in ["[]", "\"text\"", "7", "null"] {
        let json = |request: reqwest::RequestBuilder| request.header("content-type", "application/json").body(body);
        for request in [client.post(&base), client.put(format!("{base}/m1"))] {
            let refused = json(request).send().await.unwrap();
            assert_eq!(refused.status(), 400, "{body}");
            assert!(refused.text().await.unwrap().contains("the body is not an object"), "{body}");
        }
    }
    let mut seen = Vec::new();
    while seen.iter().filter(|byte| **byte == b'\n').count() < 2 {
        seen.extend_from_slice(&watch.chunk().await.unwrap().expect("the watch has ended"));
    }
    let seen = text(&seen);
    let events: Vec<serde_json::Value> = seen.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!((events[0]["type"].as_str(), events[1]["type"].as_str()), (Some("ADDED"), Some("MODIFIED")));
    assert_eq!(events[1]["object"]["metadata"]["labels"]["rack"], "1");
    assert!(server.terminate().success(), "a watch under way keeps the server from ending");
}

#[tokio::test]
async fn a_machine_boots_as_the_worker_that_its_workflow_waits_for() {
    // As apply accepts them: another interface, the agentID, the id of the instance.
    for worker in ["52:54:00:12:34:02", "agent-7", "i-42"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        let hardware = HARDWARE.replace("spec:\n", "spec:\n  agentID: agent-7\n").replace(
            "    - netboot",
            "    - netboot: {allowPXE: true}\n      dhcp: {mac: 52:54:00:12:34:02}\n    - netboot",
        );
        let workflow = WORKFLOW.replace(WORKER, worker);
        let applied = server.apply(dir.path(), &[("h.yaml", &hardware), ("t.yaml", TEMPLATE), ("w.yaml", &workflow)]);
        assert!(applied.status.success(), "{}", text(&applied.stderr));
        let url = format!("{}/ipxe/script/{WORKER}/auto.ipxe", server.url("http"));
        let expected = format!("worker_id={worker}");
        let mut script = http(&url).await.1;
        for _ in 0..1000 {
            if script.contains(&expected) {
                break;
            }
            script = http(&url).await.1;
        }
        assert!(script.contains(&expected), "{script}");
        assert_eq!(contexts(&mut server.classic().await, worker).await.len(), 1);
    }
}

#[tokio::test]
async fn a_boot_script_is_given_while_a_workflow_waits() {
    let (_dir, server) = started();
    let url = format!("{}/ipxe/script/{WORKER}/auto.ipxe", server.url("http"));
    let (status, script) = http(&url).await;
    assert_eq!(status, 200);
    assert!(script.contains(&format!("worker_id={WORKER}")), "{script}");
    let unknown = format!("{}/ipxe/script/52:54:00:00:00:99/auto.ipxe", server.url("http"));
    assert_eq!(http(&unknown).await.0, 404);
    let mut worker = WorkflowServiceClient::new(server.channel().await);
    worker.report_action_status(report("first", State::Running)).await.unwrap();
    worker.report_action_status(report("first", State::Failed)).await.unwrap();
    let mut script = http(&url).await.1;
    for _ in 0..1000 {
        if !script.contains("worker_id=") {
            break;
        }
        script = http(&url).await.1;
    }
    assert!(!script.contains("worker_id="), "{script}");
}
