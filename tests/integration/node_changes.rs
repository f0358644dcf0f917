//! Changes that really change a node: one of its own in namespaces, without systemd and with the real systemd.
//!
//! No test here calls a power operation: namespaces do not hold `reboot(2)`.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Agent, Connection, Ledger, Node, Request, assert_is_error, can_isolate, eventually, open_intents, skipped,
};

const UNSHARE: &str = "/usr/bin/unshare";

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// An agent that changes a node of its own without systemd.
fn private_node() -> Option<Agent> {
    can_isolate(&[UNSHARE]).then(|| Node::new("").isolated(&[fixture("private-node")]).start())
}

/// An agent on a node whose systemd never answers.
fn hung_node() -> Option<Agent> {
    let launcher = [fixture("private-node"), "--hung-systemd".to_owned()];
    can_isolate(&[UNSHARE, "/usr/bin/busctl"]).then(|| Node::new("").isolated(&launcher).start())
}

/// An agent on a node with the real systemd, hostnamed, timedated and journal. `before` is run there by a shell first.
fn systemd_node(before: &str) -> Option<Agent> {
    let programs = [
        UNSHARE,
        "/usr/bin/busctl",
        "/usr/bin/dbus-daemon",
        "/usr/bin/journalctl",
        "/lib/systemd/systemd",
        "/lib/systemd/systemd-hostnamed",
        "/lib/systemd/systemd-journald",
        "/lib/systemd/systemd-timedated",
    ];
    let script = format!("set -e; {before}\nexec \"$@\"");
    let launcher = [fixture("dbus/run"), "/bin/sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    can_isolate(&programs).then(|| Node::new("").isolated(&launcher).start())
}

fn put(agent: &Agent, path: &str, body: &Value) -> Request {
    Request::new("PUT", path).json(&body.to_string()).bearer(&agent.token(&["write"]))
}

/// A file as the node has it: its tree is seen through the process that was started, or through that one's child.
fn file_of(agent: &Agent, path: &str) -> String {
    let pid = agent.pid();
    let child = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let pid = child.split_whitespace().next().map_or(pid, |child| child.parse().unwrap());
    fs::read_to_string(PathBuf::from(format!("/proc/{pid}/root{path}"))).unwrap()
}

/// Changes the host name to `name` and checks answer, reading, file and entry.
fn rename(agent: &Agent, name: &str) {
    let mut ledger = Ledger::open(agent);
    let response = agent.call(&put(agent, "/node/hostname", &json!({ "hostname": name })));
    assert_eq!((response.status, response.json()), (200, json!({ "hostname": name })));
    let entry = ledger.only();
    assert_eq!((&entry["class"], &entry["outcome"]), (&json!("change"), &json!("completed")));
    assert_eq!((&entry["response_code"], &entry["operation_id"]), (&json!(200), &json!("PutNodeHostname")));
    assert_eq!(agent.read("/node/hostname")["hostname"], name);
    assert_eq!(file_of(agent, "/etc/hostname"), format!("{name}\n"));
}

#[test]
fn without_systemd_host_name_and_zone_are_changed_directly() {
    let own_name = nix::unistd::gethostname().unwrap();
    let Some(agent) = private_node() else { return };
    assert_eq!(agent.read("/node/hostname")["hostname"], "node-under-test");
    rename(&agent, "node-9.example");

    for bad in ["", "-a", "a..b", "a b", "a\n", "../x"] {
        assert_is_error(&agent.call(&put(&agent, "/node/hostname", &json!({ "hostname": bad }))), 400);
    }
    assert_eq!(agent.read("/node/hostname")["hostname"], "node-9.example", "bad names change nothing");
    assert_eq!(file_of(&agent, "/etc/hostname"), "node-9.example\n");

    if PathBuf::from("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        let response = agent.call(&put(&agent, "/node/timezone", &json!({"timezone": "Asia/Tokyo"})));
        assert_eq!((response.status, response.json()), (200, json!({"timezone": "Asia/Tokyo"})));
        assert_eq!(agent.read("/node/timezone")["timezone"], "Asia/Tokyo");
        assert_is_error(&agent.call(&put(&agent, "/node/timezone", &json!({"timezone": "Mars/Base"}))), 404);
        assert_eq!(agent.read("/node/timezone")["timezone"], "Asia/Tokyo");
    } else {
        skipped("zones are not installed here");
    }
    assert_is_error(&agent.call(&Request::get("/node/log").bearer(&agent.token(&["admin"]))), 503);
    assert_is_error(&agent.call(&Request::get("/node/service").bearer(&agent.token(&["admin"]))), 503);
    assert_eq!(nix::unistd::gethostname().unwrap(), own_name, "the machine keeps its own");
}

#[test]
fn the_real_hostnamed_and_timedated_change_name_and_zone() {
    let own_name = nix::unistd::gethostname().unwrap();
    let Some(agent) = systemd_node("") else { return };
    rename(&agent, "node-9.example");
    rename(&agent, "localhost");
    let response = agent.call(&put(&agent, "/node/timezone", &json!({"timezone": "Asia/Tokyo"})));
    assert_eq!((response.status, response.json()), (200, json!({"timezone": "Asia/Tokyo"})), "{}", response.text());
    assert_eq!(agent.read("/node/timezone")["timezone"], "Asia/Tokyo");
    assert_eq!(nix::unistd::gethostname().unwrap(), own_name, "the machine keeps its own");
}

#[test]
fn the_real_systemd_starts_restarts_and_stops_a_service() {
    let Some(agent) = systemd_node("") else { return };
    let token = agent.token(&["write"]);
    let post = |name: &str, action: &str| {
        agent.call(&Request::new("POST", &format!("/node/service/{name}/{action}")).bearer(&token))
    };
    let state = || agent.read("/node/service/sleeper.service");
    let until = |what: &str, active_state: &str| {
        eventually(what, || Some(state()).filter(|service| service["active_state"] == active_state))
    };
    assert_eq!((&state()["load_state"], &state()["active_state"]), (&json!("loaded"), &json!("inactive")));

    let mut ledger = Ledger::open(&agent);
    let started = post("sleeper", "start");
    assert_eq!(started.status, 202, "{}", started.text());
    assert_eq!(started.json(), json!({"name": "sleeper.service", "action": "start", "status": "accepted"}));
    let entry = ledger.only();
    assert_eq!((&entry["class"], &entry["operation_id"]), (&json!("change"), &json!("PostNodeServiceStart")));
    assert_eq!(entry["path"], "/node/service/sleeper/start");
    let running = until("the service runs", "active");
    let first_pid = running["main_pid"].as_u64().unwrap();
    assert!(running["active_since"].is_string(), "{running}");
    let listed = agent.read("/node/service");
    let sleeper = listed["services"].as_array().unwrap().iter().find(|service| service["name"] == "sleeper.service");
    assert_eq!(sleeper.unwrap()["sub_state"], "running");

    assert_eq!(post("sleeper.service", "restart").status, 202);
    eventually("another process runs", || {
        let service = state();
        (service["active_state"] == "active" && service["main_pid"].as_u64()? != first_pid).then_some(())
    });
    assert_eq!(post("sleeper", "stop").status, 202);
    assert!(until("the service is stopped", "inactive").get("main_pid").is_none());

    for (unknown, status) in [("no-such-service", 404), ("sleeper@", 404), ("a%20b", 400)] {
        assert_is_error(&post(unknown, "start"), status);
        let get = Request::get(&format!("/node/service/{unknown}")).bearer(&token);
        assert_is_error(&agent.call(&get), status);
    }
}

#[test]
fn the_real_journal_gives_its_newest_entries() {
    // The journal takes messages in its own time: it is asked to write down what it has.
    let sent = "for message in 'hello from the test' \"$(printf 'a\\033[31mb')\" \"$(printf '%010000d' 7)\"; do
        systemd-cat --identifier=integration echo \"$message\"; done; journalctl --sync;";
    let Some(agent) = systemd_node(sent) else { return };
    let of_test = |path: &str| -> Vec<(String, Option<u64>)> {
        let log = agent.read(path);
        let entries = log["entries"].as_array().unwrap().iter();
        let own = entries.filter(|entry| entry["identifier"] == "integration");
        own.map(|entry| (entry["message"].as_str().unwrap().to_owned(), entry["message_bytes"].as_u64())).collect()
    };
    let (long, escape) = ("0".repeat(4_096), "a\u{1b}[31mb".to_owned());
    let expected = [(long, Some(10_000)), (escape, None), ("hello from the test".to_owned(), None)];
    assert_eq!(of_test("/node/log"), expected);
    let first = agent.read("/node/log?lines=1");
    assert_eq!(first["entries"].as_array().unwrap().len(), 1);
    assert_eq!(of_test("/node/log?unit=no-such-unit"), []);
}

#[test]
fn a_client_that_gives_up_while_its_call_is_at_work_leaves_an_aborted_entry() {
    let Some(agent) = hung_node() else { return };
    let mut ledger = Ledger::open(&agent);
    let read = Request::get("/node/service").bearer(&agent.token(&["read"]));
    let change = put(&agent, "/node/hostname", &json!({"hostname": "node-9"}));
    for (request, class, operation_id) in [(read, "read", "GetNodeServices"), (change, "change", "PutNodeHostname")] {
        let mut connection = Connection::open(agent.address());
        connection.send(&request.whole());
        eventually("the call is at work", || has_child(&agent).then_some(()));
        connection.reset();
        let entries = ledger.awaited("the entry of the call that was given up");
        assert_eq!(entries.len(), 1, "{entries:#?}");
        let entry = &entries[0];
        assert_eq!((&entry["class"], &entry["operation_id"]), (&json!(class), &json!(operation_id)));
        assert_eq!((&entry["outcome"], &entry["response_code"]), (&json!("aborted"), &json!(0)));
        eventually("what it waited for is killed", || (!has_child(&agent)).then_some(()));
    }
    assert_eq!(open_intents(agent.node()), 0);
    assert_eq!(agent.read("/node/hostname")["hostname"], "node-under-test");
}

#[test]
fn a_crash_while_a_change_is_at_work_leaves_an_interrupted_entry() {
    let Some(agent) = hung_node() else { return };
    let mut connection = Connection::open(agent.address());
    connection.send(&put(&agent, "/node/hostname", &json!({"hostname": "node-9"})).whole());
    eventually("the change is at work", || has_child(&agent).then_some(()));
    let agent = agent.stop(Signal::SIGKILL).0.start();
    let entry = agent.read("/audit?limit=1")["items"][0].take();
    assert_eq!((&entry["outcome"], &entry["operation_id"]), (&json!("interrupted"), &json!("PutNodeHostname")));
    assert_eq!(agent.read("/audit/status")["interrupted"], 1);
}

/// Whether the agent waits for a program that it started.
fn has_child(agent: &Agent) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    // A task may end while its folder is read.
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    children.into_iter().any(|children| !children.trim().is_empty())
}
