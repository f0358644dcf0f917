//! SIGHUP reads everything again: all of it is put in force, or nothing and the reason is told.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Agent, Node, Request};

/// The configuration from now on, until which the agent goes on with the old one.
fn configure(agent: &Agent, config: &str) {
    fs::write(agent.node().folder().join("nodeaudit.toml"), config).unwrap();
}

fn status_of(agent: &Agent, path: &str, token: &str) -> u16 {
    agent.call(&Request::get(path).bearer(token)).status
}

#[test]
fn roles_and_what_needs_no_token_are_in_force_after_a_reload() {
    let agent = Node::new("[auth]\nanonymous_permissions = []\n").start();
    let (admin, operator) = (agent.token(&["admin"]), agent.token(&["operator"]));
    assert_eq!(status_of(&agent, "/node/hostname", &operator), 403);
    assert_eq!(agent.call(&Request::get("/version")).status, 401);

    configure(&agent, "auth.anonymous_permissions = [\"health:read\"]\nauth.roles.operator = [\"node:read\"]\n");
    let status = agent.reload(&admin, (1, 0));
    assert_eq!((&status["restart_needed"], status.get("failure")), (&json!([]), None), "{status}");
    assert_eq!(status_of(&agent, "/node/hostname", &operator), 200);
    let document = agent.call(&Request::get("/openapi.json"));
    assert_eq!(document.status, 200);
    let security = &document.json()["paths"]["/version"]["get"]["security"];
    assert_eq!(security, &json!([{"bearer": []}, {}]), "the description follows");

    configure(&agent, "auth.anonymous_permissions = []\n");
    agent.reload(&admin, (2, 0));
    assert_eq!(status_of(&agent, "/node/hostname", &operator), 403, "a role that is gone gives nothing");
    assert_eq!(agent.call(&Request::get("/version")).status, 401);
}

#[test]
fn a_bad_file_changes_nothing_and_the_reason_is_told() {
    let agent = Node::new("").start();
    let (admin, operator) = (agent.token(&["admin"]), agent.token(&["operator"]));
    let key_file = agent.node().folder().join("own.key");
    fs::write(&key_file, "x".repeat(64)).unwrap();
    fs::set_permissions(&key_file, Permissions::from_mode(0o644)).unwrap();
    let exposed = format!("auth.key_file = {key_file:?}");
    let catalogue = [
        ("audit.max_entires = 5", "nodeaudit.toml:2: audit.max_entires: unknown key"),
        ("auth.leeway_s = 60", "auth.leeway_s: must be 0 to 5"),
        ("audit.read.guarantee = 80", "the guarantees of the three classes"),
        ("[", "nodeaudit.toml:2"),
        (&exposed, "is open to group or others"),
        ("auth.key_file = \"/nonexistent/key\"", "can't use the key file: there is no file /nonexistent/key"),
    ];
    for (refused, (line, reason)) in (1..).zip(catalogue) {
        // What stands beside it is good, and must not be taken either.
        configure(&agent, &format!("auth.roles.operator = [\"node:read\"]\n{line}\n"));
        let status = agent.reload(&admin, (0, refused));
        assert!(status["failure"].as_str().is_some_and(|failure| failure.contains(reason)), "{reason}: {status}");
        assert_eq!(status_of(&agent, "/node/hostname", &operator), 403, "{line}");
    }

    configure(&agent, "auth.roles.operator = [\"node:read\"]\n");
    let status = agent.reload(&admin, (1, 6));
    assert_eq!(status.get("failure"), None, "{status}");
    assert_eq!(status_of(&agent, "/node/hostname", &operator), 200);
    let (_, log) = agent.stop(Signal::SIGTERM);
    assert_eq!(log.matches("not reloaded, everything stays as it was: ").count(), 6, "{log}");
    assert!(catalogue.iter().all(|(_, reason)| log.contains(reason)), "{log}");
}

#[test]
fn what_needs_a_restart_is_named_until_there_is_one() {
    let agent = Node::new("").start();
    let admin = agent.token(&["admin"]);
    let changed = "audit.max_entries = 5000\nserver.workers = 1\n";
    configure(&agent, changed);
    let waiting = json!(["audit.max_entries", "server.workers"]);
    assert_eq!(agent.reload(&admin, (1, 0))["restart_needed"], waiting);
    configure(&agent, &format!("{changed}auth.leeway_s = 1\n"));
    assert_eq!(agent.reload(&admin, (2, 0))["restart_needed"], waiting, "they still are");
    assert_eq!(agent.read("/audit/status")["max_entries"], 100_000, "what is in force is what it was started with");
    configure(&agent, "");
    assert_eq!(agent.reload(&admin, (3, 0))["restart_needed"], json!([]));
    configure(&agent, changed);
    let (node, log) = agent.stop(Signal::SIGTERM);
    assert_eq!(log.matches("audit.max_entries has changed; it takes effect").count(), 2, "{log}");
    assert_eq!(node.start().read("/audit/status")["max_entries"], 5_000);
}
