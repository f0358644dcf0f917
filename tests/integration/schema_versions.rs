//! Rings of earlier versions: a stored file of each is opened, served as it was, and written on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Node, Request};

/// The stored rings; beside each `<name>.sqlite` its entries as they were served then, `<name>.ndjson`.
fn stored() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rings");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "sqlite")).collect()
}

#[test]
fn a_ring_of_every_earlier_version_is_served_as_it_was_and_written_on() {
    assert!(!stored().is_empty());
    for ring in stored() {
        let name = ring.display();
        let node = Node::new("audit.max_bytes = 1048576\n");
        fs::create_dir(node.state_dir()).unwrap();
        fs::set_permissions(node.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
        let copy = node.state_dir().join("ring.sqlite");
        fs::copy(&ring, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();

        let agent = node.start();
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
