//! Changes are recorded before they happen, and what the agent knew outlives it.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Agent, Node, Request, begin_change, open_intents};

#[test]
fn a_change_that_a_crash_interrupts_becomes_an_entry_that_says_so() {
    let agent = Agent::start();
    agent.call(&Request::get("/health"));
    let epoch = agent.read("/audit/status")["epoch"].clone();
    let connection = begin_change(&agent);
    let (node, _) = agent.stop(Signal::SIGKILL);
    drop(connection);
    assert_eq!(open_intents(&node), 1);

    let agent = node.start();
    let page = agent.read("/audit?limit=1");
    let entry = &page["items"][0];
    assert_eq!((&entry["outcome"], &entry["response_code"]), (&json!("interrupted"), &json!(0)));
    assert_eq!((&entry["class"], &entry["operation_id"]), (&json!("change"), &json!("PutNodeHostname")));
    assert_eq!((&entry["user"], &entry["roles"]), (&json!("tester@example.com"), &json!(["admin"])));
    assert_eq!((&entry["path"], &entry["permission"]), (&json!("/node/hostname"), &json!("node:write")));
    let status = agent.read("/audit/status");
    assert_eq!((&status["interrupted"], &status["epoch"]), (&json!(1), &epoch));
    assert_eq!(status["classes"][0]["interrupted"], 1);
    assert_eq!(open_intents(agent.node()), 0);
    let id = entry["id"].as_str().unwrap();
    assert_eq!(&agent.read(&format!("/audit/{id}"))["entry"], entry, "it is found by its ID");

    // Told once, not at every start.
    let agent = agent.stop(Signal::SIGKILL).0.start();
    assert_eq!(agent.read("/audit/status")["interrupted"], 1);
}

#[test]
fn an_answered_change_survives_a_crash() {
    let agent = Agent::start();
    let change =
        Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#).bearer(&agent.token(&["admin"]));
    let ids: Vec<String> = (0..20).map(|_| agent.call(&change).audit_id().to_owned()).collect();
    let agent = agent.stop(Signal::SIGKILL).0.start();
    for id in &ids {
        let entry = agent.read(&format!("/audit/{id}"))["entry"].take();
        assert_eq!((&entry["outcome"], &entry["response_code"]), (&json!("completed"), &json!(503)));
    }
    let status = agent.read("/audit/status");
    assert_eq!((&status["classes"][0]["entries"], &status["interrupted"]), (&json!(20), &json!(0)));
}

#[test]
fn an_answered_change_leaves_no_open_intent() {
    let agent = Agent::start();
    let change = Request::new("PUT", "/node/hostname").bearer(&agent.token(&["admin"]));
    for body in [r#"{"hostname": "node-7"}"#, "{}", "no JSON"] {
        agent.call(&change.clone().json(body));
        assert_eq!(open_intents(agent.node()), 0, "after {body}");
    }
}

#[test]
fn a_restart_keeps_every_entry_and_goes_on_counting() {
    // A window longer than the test: what is kept was flushed by the stop, not by the clock.
    let config = "[audit]\nread.window_ms = 60000\ndenied.window_ms = 60000\n";
    let agent = Node::new(config).start();
    let ids: Vec<String> = (0..50)
        .map(|number| match number % 2 {
            0 => agent.call(&Request::get("/health")).audit_id().to_owned(),
            _ => agent.call(&Request::get("/node/hostname")).audit_id().to_owned(),
        })
        .collect();
    let (node, _) = agent.stop(Signal::SIGTERM);

    let agent = node.start();
    let first = agent.read("/audit/status");
    assert_eq!((&first["entries"], &first["last_seq"]), (&json!(50), &json!(50)), "relaxed entries were flushed");
    let entries: Vec<Value> = ids.iter().map(|id| agent.read(&format!("/audit/{id}"))["entry"].take()).collect();
    let seqs: Vec<u64> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=50).collect::<Vec<u64>>());

    let (node, _) = agent.stop(Signal::SIGINT);
    let agent = node.start();
    let second = agent.read("/audit/status");
    assert_eq!((&second["epoch"], &second["created"]), (&first["epoch"], &first["created"]));
    assert_eq!(second["last_seq"], 101, "the looks at it went on from 51");
    let again: Vec<Value> = ids.iter().map(|id| agent.read(&format!("/audit/{id}"))["entry"].take()).collect();
    assert_eq!(again, entries, "read in another run, the same");
}

#[test]
fn a_damaged_ring_is_set_aside_and_a_new_one_serves() {
    let agent = Agent::start();
    (0..10).for_each(|_| drop(agent.call(&Request::get("/health"))));
    let before = agent.read("/audit/status");
    let (node, _) = agent.stop(Signal::SIGTERM);
    let ring = node.state_dir().join("ring.sqlite");
    let mut bytes = fs::read(&ring).unwrap();
    bytes[..100].fill(0x55);
    fs::write(&ring, &bytes).unwrap();

    let agent = node.start();
    agent.call(&Request::get("/health"));
    let status = agent.read("/audit/status");
    assert_ne!(status["epoch"], before["epoch"], "a new ring has a new epoch");
    assert!(status["first_seq"].as_u64() > before["last_seq"].as_u64(), "seq goes on: {status}");
    assert_eq!(status["damaged_files"], 1);
    let names: Vec<String> = fs::read_dir(agent.node().state_dir())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let aside: Vec<_> = names.iter().filter(|name| name.starts_with("ring.sqlite.damaged-")).collect();
    assert!(!aside.is_empty(), "{names:?}");
}
