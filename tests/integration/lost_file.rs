//! The ring's files are damaged, removed or replaced while the agent writes them: a new ring takes their place without a restart, and
//! says what it could not keep.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Agent, Connection, Node, Request, begin_change, eventually, is_long, open_intents};

/// A debug build on a busy machine needs more than the second that a release build has.
const BOUND: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });

fn file(agent: &Agent, suffix: &str) -> PathBuf {
    agent.node().state_dir().join(format!("ring.sqlite{suffix}"))
}

fn change(agent: &Agent) -> Request {
    Request::new("POST", "/node/power/reboot").bearer(&agent.token(&["admin"]))
}

/// Makes calls, and gives their IDs; the last one is strict, so all of them are stored.
fn calls(agent: &Agent) -> Vec<String> {
    let mut ids: Vec<_> = (0..10).map(|_| agent.call(&Request::get("/health")).audit_id().to_owned()).collect();
    ids.push(agent.call(&change(agent)).audit_id().to_owned());
    ids
}

/// A change that is recorded, as soon as there is one.
fn recorded_again(agent: &Agent) -> Value {
    let since = Instant::now();
    let entry = eventually("a change that is recorded", || {
        let response = agent.call(&change(agent));
        (!response.text().contains("can't be recorded")).then(|| agent.entry_of(&response))
    });
    let took = since.elapsed();
    assert!(!is_long() || took < BOUND, "it took {took:?}");
    entry
}

#[track_caller]
fn assert_goes_on(agent: &Agent, before: &Value, origin: &str, lost: u64) {
    let entry = recorded_again(agent);
    let status = agent.read("/audit/status");
    assert_ne!(status["epoch"], before["epoch"], "a new ring");
    assert_eq!((&status["origin"], &status["lost"]), (&json!(origin), &json!(lost)), "{status}");
    assert_eq!(status["health"], "ok", "{status}");
    // The look at the status before was stored with this change, in the new ring.
    let first = before["last_seq"].as_u64().unwrap() + 1;
    assert_eq!(status["first_seq"], first, "seq goes on without a hole: {status}");
    assert!(entry["seq"].as_u64() > before["last_seq"].as_u64());
    for counter in ["evicted", "dropped", "interrupted"] {
        assert_eq!(status[counter], before[counter], "{counter} is carried over: {status}");
    }
}

#[test]
fn a_removed_ring_file_is_replaced_and_what_it_held_is_counted() {
    let agent = Agent::start();
    calls(&agent);
    let before = agent.read("/audit/status");
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(file(&agent, suffix)).unwrap();
    }
    assert_goes_on(&agent, &before, "missing", 11);
    let (node, log) = agent.stop(Signal::SIGTERM);
    assert!(log.contains("removed or replaced"), "{log}");
    let status = node.start().read("/audit/status");
    assert_eq!((&status["origin"], &status["lost"]), (&json!("missing"), &json!(11)), "it outlives the agent");
}

#[test]
fn a_removed_state_folder_is_made_anew() {
    let agent = Agent::start();
    calls(&agent);
    let before = agent.read("/audit/status");
    fs::remove_dir_all(agent.node().state_dir()).unwrap();
    // The key in memory is still good; the helper that signs has read it.
    assert_goes_on(&agent, &before, "missing", 11);
    let mode = fs::metadata(agent.node().state_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(agent.node().state_dir().join("seq.floor").exists(), "seqs are reserved again");
}

#[test]
fn another_file_in_the_place_of_the_ring_is_neither_read_nor_written() {
    let (agent, other) = (Agent::start(), Agent::start());
    calls(&agent);
    calls(&other);
    let before = agent.read("/audit/status");
    let (other, _) = other.stop(Signal::SIGTERM);
    let foreign = other.state_dir().join("ring.sqlite");
    let bytes = fs::read(&foreign).unwrap();
    fs::rename(&foreign, file(&agent, "")).unwrap();
    assert_goes_on(&agent, &before, "missing", 11);
    assert_eq!(agent.read("/audit/status")["damaged_files"], 1, "it is kept");
    let kept = nodeaudit::audit::ring::kept_aside(&agent.node().state_dir());
    assert!(fs::read(&kept[0]).unwrap() == bytes, "as it was");
}

#[test]
fn an_older_copy_of_the_ring_in_its_place_is_not_gone_on_with() {
    let agent = Agent::start();
    calls(&agent);
    let (state_dir, folder) = (agent.node().state_dir(), tempfile::tempdir().unwrap());
    let copy = folder.path().join("copy");
    let ring = rusqlite::Connection::open(file(&agent, "")).unwrap();
    ring.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    drop(ring);
    calls(&agent);
    let before = agent.read("/audit/status");
    // Where the folder was, no ring can be made: the agent has none until somebody puts one there.
    fs::rename(&state_dir, folder.path().join("away")).unwrap();
    fs::write(&state_dir, "").unwrap();
    assert_eq!(agent.call(&change(&agent)).status, 503);
    let with_copy = folder.path().join("with_copy");
    fs::create_dir(&with_copy).unwrap();
    fs::rename(&copy, with_copy.join("ring.sqlite")).unwrap();
    fs::remove_file(&state_dir).unwrap();
    fs::rename(&with_copy, &state_dir).unwrap();
    let entry = recorded_again(&agent);
    let status = agent.read("/audit/status");
    assert_ne!(status["epoch"], before["epoch"], "a new ring");
    assert_eq!((&status["origin"], &status["damaged_files"]), (&json!("damaged"), &json!(1)), "{status}");
    assert_eq!(status["lost"], 22, "{status}");
    assert!(entry["seq"].as_u64() > before["last_seq"].as_u64());
}

#[test]
fn a_removed_wal_costs_nothing() {
    for suffix in ["-wal", "-shm"] {
        let agent = Agent::start();
        let ids = calls(&agent);
        let before = agent.read("/audit/status");
        fs::remove_file(file(&agent, suffix)).unwrap();
        recorded_again(&agent);
        let ids: Vec<_> = ids.into_iter().chain(calls(&agent)).collect();
        let (node, _) = agent.stop(Signal::SIGKILL);
        let agent = node.start();
        let status = agent.read("/audit/status");
        assert_eq!((&status["epoch"], &status["lost"]), (&before["epoch"], &json!(0)), "{suffix}: the same ring");
        for id in ids {
            agent.read(&format!("/audit/{id}"));
        }
    }
}

#[test]
fn a_ring_that_is_damaged_while_it_is_written_is_set_aside() {
    let agent = Agent::start();
    calls(&agent);
    let before = agent.read("/audit/status");
    // All pages that a batch of changes goes through, in the database and in the WAL.
    for suffix in ["", "-wal"] {
        let file = OpenOptions::new().write(true).open(file(&agent, suffix)).unwrap();
        let bytes = file.metadata().unwrap().len().min(1 << 20);
        file.write_all_at(&vec![0x55; usize::try_from(bytes).unwrap()], 0).unwrap();
    }
    eventually("a new ring", || {
        agent.call(&change(&agent));
        let page = agent.call(&Request::get("/audit?limit=1").bearer(&agent.token(&["admin"])));
        let status = agent.call(&Request::get("/audit/status").bearer(&agent.token(&["admin"])));
        (page.status == 200 && status.status == 200 && status.json()["origin"] == "damaged").then_some(())
    });
    let status = agent.read("/audit/status");
    assert!(status["last_seq"].as_u64() > before["last_seq"].as_u64(), "{status}");
    let lost = status["first_seq"].as_u64().map(|first| first - 1);
    assert_eq!((&status["damaged_files"], status["lost"].as_u64()), (&json!(1), lost), "{status}");
}

#[test]
fn a_row_that_is_not_what_was_stored_is_found_by_its_reader() {
    let agent = Agent::start();
    let ids = calls(&agent);
    let before = agent.read("/audit/status");
    // The file stays a sound database: only the sum can tell.
    let ring = rusqlite::Connection::open(file(&agent, "")).unwrap();
    ring.execute("UPDATE denied SET response_code = 201 WHERE ordinal = 3", []).unwrap();
    drop(ring);
    let admin = agent.token(&["admin"]);
    let found = agent.call(&Request::get(&format!("/audit/{}", ids[2])).bearer(&admin));
    assert_eq!(found.status, 503, "{}", found.text());
    let since = Instant::now();
    eventually("a new ring, though nobody writes", || {
        (agent.read("/audit/status")["origin"] == "damaged").then_some(())
    });
    assert!(!is_long() || since.elapsed() < BOUND);
    let status = agent.read("/audit/status");
    assert_eq!((&status["lost"], &status["damaged_files"]), (&json!(12), &json!(1)), "{before} {status}");
}

#[test]
fn a_change_that_has_begun_ends_in_the_new_ring() {
    let agent = Agent::start();
    let mut connection = begin_change(&agent);
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(file(&agent, suffix)).unwrap();
    }
    recorded_again(&agent);
    assert_eq!(open_intents(agent.node()), 1, "it is carried over");
    connection.send(br#""node-8"}"#);
    let outcome = agent.entry_of(&connection.receive("PUT"));
    assert_eq!((&outcome["class"], &outcome["operation_id"]), (&json!("change"), &json!("PutNodeHostname")));
    assert_eq!(open_intents(agent.node()), 0);
}

#[test]
fn a_change_that_a_crash_interrupts_in_the_new_ring_says_so() {
    let agent = Agent::start();
    let connection = begin_change(&agent);
    fs::remove_file(file(&agent, "")).unwrap();
    recorded_again(&agent);
    let (node, _) = agent.stop(Signal::SIGKILL);
    drop(connection);
    let agent = Node::start(node);
    let page = agent.read("/audit?limit=1");
    assert_eq!(page["items"][0]["outcome"], "interrupted", "{page}");
}

#[test]
fn an_export_that_outlives_its_ring_ends_and_does_the_new_ring_no_harm() {
    let agent = Node::new("audit.denied_entries = 4096\n").start();
    let admin = agent.token(&["admin"]);
    let long = Request::get(&format!("/{}", "p".repeat(900))).bearer(&admin);
    let mut connection = Connection::open(agent.address());
    (0..3_000).for_each(|_| drop(connection.call(&long)));
    let mut export = TcpStream::connect(agent.address()).unwrap();
    export.write_all(&Request::get("/audit/export").bearer(&admin).whole()).unwrap();
    export.read_exact(&mut [0; 12]).unwrap();
    fs::rename(agent.node().state_dir().join("ring.sqlite"), agent.node().folder().join("elsewhere")).unwrap();
    recorded_again(&agent);
    let before = agent.read("/audit/status");
    let mut rest = Vec::new();
    let _ = export.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the export does not say that it is whole");
    recorded_again(&agent);
    let after = agent.read("/audit/status");
    assert_eq!(
        (&after["epoch"], &after["origin"], &after["health"]),
        (&before["epoch"], &json!("missing"), &json!("ok"))
    );
}
