//! Rings of every version that can be read: a stored file of each is opened, served as it was, and written on. One of them is of
//! a newer minor version than this agent's, as a node finds it that went back to the agent before.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nodeaudit::audit::ring::{FILE_NAME, SchemaVersion};
use serde_json::Value;

use crate::support::{Connection, Node, Request, RingFile};

/// The stored rings; beside each `<name>.sqlite` its entries as they were served then, `<name>.ndjson`.
fn stored() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rings");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "sqlite")).collect()
}

#[test]
fn a_ring_of_every_version_is_served_as_it_was_and_written_on() {
    assert!(stored().len() > 1);
    for ring in stored() {
        let name = ring.display();
        let agent = node_with(&ring).start();
        agent.call(&Request::get("/health"));
        let page = agent.read("/audit?limit=100");
        let known: Vec<Value> = fs::read_to_string(ring.with_extension("ndjson"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (new, old) =
            page["items"].as_array().unwrap().split_at(page["items"].as_array().unwrap().len() - known.len());
        assert_eq!(old, known, "{name}: served as they were");
        assert!(!new.is_empty(), "{name}: written on");
        let status = agent.read("/audit/status");
        assert_eq!((status["evicted"].as_u64(), status["damaged_files"].as_u64()), (Some(0), Some(0)), "{name}");
    }
}

#[test]
fn what_a_newer_minor_version_has_added_is_kept() {
    let agent = node_with(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rings/v3.1.sqlite"))).start();
    let change = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#);
    agent.call(&change.bearer(&agent.token(&["admin"])));
    let (node, _) = agent.stop(Signal::SIGTERM);

    let ring = rusqlite::Connection::open(node.state_dir().join(FILE_NAME)).unwrap();
    let version: i32 = ring.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, SchemaVersion::new(3, 1).to_number());
    let reasons = "SELECT group_concat(coalesce(reason, 'none'), ', ' ORDER BY seq) FROM change";
    let reasons: String = ring.query_row(reasons, [], |row| row.get(0)).unwrap();
    assert_eq!(reasons, "maintenance, none", "the stored entry's, and that of the entry written on");
    let added = "SELECT (SELECT sum(postponed) FROM loss), (SELECT group_concat(note) FROM witness)";
    let added: (i64, String) = ring.query_row(added, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(added, (21, "kept".to_owned()));
}

/// A node whose state folder holds a copy of this ring.
fn node_with(ring: &Path) -> Node {
    node_with_options(ring, "")
}

/// The same with more settings of `[audit]`.
fn node_with_options(ring: &Path, settings: &str) -> Node {
    let node = Node::new(&format!("[audit]\nmax_bytes = 1048576\n{settings}"));
    fs::create_dir(node.state_dir()).unwrap();
    fs::set_permissions(node.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let copy = node.state_dir().join(FILE_NAME);
    fs::copy(ring, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
    node
}

#[test]
fn filters_find_rows_of_every_version_and_all_of_them_age_out() {
    for ring in stored() {
        let name = ring.display();
        let node = node_with_options(&ring, "max_entries = 100\n");
        let agent = node.start();
        let known = fs::read_to_string(ring.with_extension("ndjson")).unwrap();
        let known: Vec<Value> = known.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        agent.call(&Request::get("/health"));
        for (filter, value) in
            [("method", "PUT"), ("path", "/health"), ("user", ""), ("operation_id", "GetNodeHostname")]
        {
            let expected = known.iter().filter(|entry| entry[filter] == value).count();
            let found = agent.read(&format!("/audit?{filter}={value}&limit=100"));
            let found = found["items"].as_array().unwrap();
            let old = found.iter().filter(|entry| known.contains(entry)).count();
            assert_eq!(old, expected, "{name}: {filter}={value}");
            assert!(found.iter().all(|entry| entry[filter] == value), "{name}: {filter}={value}: {found:?}");
        }
        let mut connection = Connection::open(agent.address());
        let (read, refused) = (Request::get("/node/load").bearer(&agent.token(&["read"])), Request::get("/node/load"));
        let change = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#);
        let change = change.bearer(&agent.token(&["admin"]));
        for request in [read, refused, change] {
            (0..150).for_each(|_| drop(connection.call(&request)));
        }
        let page = agent.read("/audit?limit=100");
        let items = page["items"].as_array().unwrap();
        assert!(items.iter().all(|entry| !known.contains(entry)), "{name}");
        let (node, _) = agent.stop(Signal::SIGTERM);
        RingFile::of(&node).assert_sound();
    }
}
