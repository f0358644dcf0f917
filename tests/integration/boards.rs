//! The binaries that ship, those for ARM boards under qemu-user: they serve and record, and a ring goes from one architecture to another.
//!
//! They are those that `packaging/cross-build.sh` has left in the target folder. How fast they are and what they take of memory
//! can't be told under qemu.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Agent, BINARY, Connection, Node, Request, skipped};

/// Target, and who runs a binary of it here where the machine itself does not.
const BOARDS: [(&str, Option<&str>); 3] = [
    ("x86_64-unknown-linux-musl", None),
    ("aarch64-unknown-linux-musl", Some("/usr/bin/qemu-aarch64-static")),
    ("armv7-unknown-linux-musleabihf", Some("/usr/bin/qemu-arm-static")),
];

/// What another system says in other structures on each architecture.
const READINGS: [&str; 8] = [
    "/node/hostname",
    "/node/os",
    "/node/uptime",
    "/node/load",
    "/node/memory",
    "/node/disk",
    "/node/network/interface",
    "/node/time",
];

#[test]
fn a_board_serves_and_records_and_its_ring_goes_to_another_architecture_and_back() {
    for (target, qemu) in BOARDS {
        let Some(binary) = built_for(target, qemu) else { continue };
        let on_board = |node: Node| node.launched(qemu.as_slice()).binary(&binary).start();

        let node = Node::new("");
        let socket = node.folder().join("nodeaudit.sock");
        fs::write(
            node.folder().join("nodeaudit.toml"),
            format!("server.socket = {socket:?}\naudit.max_bytes = 1048576\n"),
        )
        .unwrap();
        let agent = on_board(node);
        let machine = agent.read("/node/os")["architecture"].take();
        assert!(target.starts_with(machine.as_str().unwrap().trim_end_matches('l')), "{target} runs as {machine}");
        work(&agent);
        let mut local = UnixStream::connect(socket).unwrap();
        local.write_all(b"GET /health HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        local.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        let on_the_board = entries(&agent);
        assert_eq!(classes(&on_the_board), ["change", "denied", "read"], "{target}");
        let (node, _) = agent.stop(Signal::SIGTERM);

        let agent = node.alone().binary(BINARY).start();
        assert!(entries(&agent).ends_with(&on_the_board), "{target}: read here as they were there");
        work(&agent);
        let of_both = entries(&agent);
        // Killed: what it wrote is still in the WAL.
        let (node, _) = agent.stop(Signal::SIGKILL);

        let agent = on_board(node);
        assert!(entries(&agent).ends_with(&of_both), "{target}: read there as they were here");
        work(&agent);
        let status = agent.read("/audit/status");
        let lost = ["evicted", "dropped", "lost", "damaged_files"].map(|counter| status[counter].as_u64());
        assert_eq!(lost, [Some(0); 4], "{target}");
    }
}

#[test]
fn the_targets_built_in_containers_are_those_built_without() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // `cross` itself looks for the one with the capital letter.
    assert_eq!(fs::read_link(root.join("Cross.toml")).unwrap(), Path::new("cross.toml"));
    let cross: toml::Table = toml::from_str(&fs::read_to_string(root.join("cross.toml")).unwrap()).unwrap();
    let in_containers: BTreeSet<_> = cross["target"].as_table().unwrap().keys().map(String::as_str).collect();
    let script = fs::read_to_string(root.join("packaging/cross-build.sh")).unwrap();
    let list = script.split_once("\nall=(\n").unwrap().1.split_once("\n)").unwrap().0;
    assert_eq!(in_containers, list.split_whitespace().collect());
    assert!(BOARDS.iter().all(|(target, _)| in_containers.contains(target)), "what is tested is built");
}

/// The binary for that target; none where it was not built or can't be run, which is said loudly.
fn built_for(target: &str, qemu: Option<&str>) -> Option<PathBuf> {
    let folder = Path::new(BINARY).ancestors().nth(2).unwrap();
    let binary = folder.join(target).join("dist/nodeaudit");
    for needed in [binary.as_path()].into_iter().chain(qemu.map(Path::new)) {
        if !needed.exists() {
            skipped(&format!("{target}: there is no {}", needed.display()));
            return None;
        }
    }
    Some(binary)
}

/// Calls of every class, malformed ones among them.
fn work(agent: &Agent) {
    for path in READINGS {
        assert!(agent.read(path).is_object(), "{path}");
    }
    let change = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#);
    assert_eq!(agent.call(&change.bearer(&agent.token(&["admin"]))).status, 503, "--dev refuses changes");
    assert_eq!(agent.call(&Request::get("/node/hostname")).status, 401);
    let mut malformed = Connection::open(agent.address());
    malformed.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(malformed.receive("GET").status, 400);
}

/// All entries, newest first.
fn entries(agent: &Agent) -> Vec<Value> {
    let page = agent.read("/audit?limit=100");
    let items = page["items"].as_array().unwrap().clone();
    assert_eq!(page["total_items"].as_u64(), Some(items.len() as u64), "all of them fit a page");
    items
}

fn classes(entries: &[Value]) -> Vec<&str> {
    let mut classes: Vec<_> = entries.iter().map(|entry| entry["class"].as_str().unwrap()).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}
