//! The facilities against the real systemd, hostnamed, timedated and journal, on the node that `tests/fixtures/dbus/run`
//! makes. Ignored elsewhere: they would change the machine that runs the tests.

use std::process::Command;

use super::fixture::block_on;
use super::{Changes, Host, HostError, Log, LogQuery, Paths, ServiceAction};

/// The node, when it is the one that the fixture made and not the machine that runs the tests.
fn node() -> Host {
    let own = std::fs::read_to_string("/run/dbus/bus.conf");
    assert!(own.is_ok(), "to be run by tests/fixtures/dbus/run");
    Host::new(Paths::new("/"), Changes::Apply)
}

#[test]
#[ignore = "needs tests/fixtures/dbus/run"]
fn real_peer_hostnamed_changes_the_kernels_name_and_the_file() {
    let node = node();
    block_on(node.set_hostname("node-9.example")).unwrap();
    assert_eq!(node.hostname().unwrap().hostname, "node-9.example");
    assert_eq!(std::fs::read_to_string("/etc/hostname").unwrap(), "node-9.example\n");
    block_on(node.set_hostname("localhost")).unwrap();
    assert_eq!(node.hostname().unwrap().hostname, "localhost");
}

#[test]
#[ignore = "needs tests/fixtures/dbus/run"]
fn real_peer_timedated_changes_the_zone() {
    let node = node();
    block_on(node.set_timezone("Asia/Tokyo")).unwrap();
    assert_eq!(block_on(node.timezone()).unwrap().timezone, "Asia/Tokyo");
}

#[test]
#[ignore = "needs tests/fixtures/dbus/run"]
fn real_peer_systemd_starts_and_stops_a_service() {
    let node = node();
    block_on(async {
        assert_eq!(node.service("sleeper").await.unwrap().load_state, "loaded");
        node.control_service("sleeper", ServiceAction::Start).await.unwrap();
        let running = node.service("sleeper.service").await.unwrap();
        assert_eq!((running.active_state.as_str(), running.main_pid.is_some()), ("active", true));
        assert!(running.active_since.is_some());
        let listed = node.services().await.unwrap().services;
        assert!(listed.iter().any(|service| service.name == "sleeper.service" && service.sub_state == "running"));
        let stopped = node.control_service("sleeper", ServiceAction::Stop).await.unwrap();
        assert_eq!(stopped.name, "sleeper.service");
        let unknown = node.service("no-such-service").await.unwrap_err();
        assert!(matches!(unknown, HostError::Unknown { .. }), "{unknown}");
    });
}

#[test]
#[ignore = "needs tests/fixtures/dbus/run"]
fn real_peer_journal_gives_its_newest_entries() {
    let node = node();
    let sent = ["hello from the test", "a\u{1b}[31mb", &"x".repeat(10_000)];
    for message in sent {
        let status = Command::new("systemd-cat").args(["--identifier=real-peer", "echo", message]).status().unwrap();
        assert!(status.success());
    }
    let log = block_on(async {
        // The journal takes messages in its own time: it is asked to write down what it has.
        let synced = tokio::process::Command::new("journalctl").arg("--sync").status().await.unwrap();
        assert!(synced.success());
        node.log(LogQuery::default()).await.unwrap()
    });
    let of_test = |log: Log| -> Vec<(String, Option<u64>)> {
        let own = log.entries.into_iter().filter(|entry| entry.identifier.as_deref() == Some("real-peer"));
        own.map(|entry| (entry.message, entry.message_bytes)).collect()
    };
    let expected = [("x".repeat(4096), Some(10_000)), (sent[1].to_owned(), None), (sent[0].to_owned(), None)];
    assert_eq!(of_test(log), expected);
}
