//! What an agent finds in its state folder when it starts: it serves, or it says why not and touches nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rusqlite::Connection as Sqlite;
use rusqlite::config::DbConfig;
use serde_json::{Value, json};

use crate::support::{BINARY, Node, Request, can_isolate};

/// A node that has served, and the ID of an entry in its ring.
fn served() -> (Node, String) {
    let agent = Node::new("audit.max_bytes = 1048576\n").start();
    let change = Request::new("POST", "/node/power/reboot").bearer(&agent.token(&["admin"]));
    let id = agent.call(&change).audit_id().to_owned();
    (agent.stop(Signal::SIGTERM).0, id)
}

fn ring(node: &Node) -> PathBuf {
    node.state_dir().join("ring.sqlite")
}

/// Starts an agent that must end by itself, and gives its exit code and what it said.
fn refusal(launcher: &[&str], state_dir: &Path) -> (Option<i32>, String) {
    let line = [&["/usr/bin/timeout", "20"], launcher, &[BINARY, "serve", "--dev", "--listen", "127.0.0.1:0"]].concat();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).arg("--state-dir").arg(state_dir).env_clear().stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[track_caller]
fn assert_refuses(state_dir: &Path, code: i32, reason: &str) {
    let (exit, log) = refusal(&[], state_dir);
    assert_eq!(exit, Some(code), "{log}");
    let told = log.lines().find(|line| line.starts_with("nodeaudit: "));
    assert!(told.is_some_and(|line| line.contains(reason)), "{reason}: {log}");
}

/// The status of an agent that starts on what is there.
#[track_caller]
fn assert_serves(node: Node, origin: &str, damaged_files: u64, id: Option<&str>) -> Value {
    let agent = node.start();
    let status = agent.read("/audit/status");
    assert_eq!((&status["origin"], &status["damaged_files"]), (&json!(origin), &json!(damaged_files)), "{status}");
    if let Some(id) = id {
        agent.read(&format!("/audit/{id}"));
    }
    status
}

#[test]
fn another_programs_file_is_left_as_it_is() {
    let (node, _) = served();
    fs::remove_file(ring(&node)).unwrap();
    let foreign = Sqlite::open(ring(&node)).unwrap();
    foreign.execute_batch("PRAGMA page_size = 8192; CREATE TABLE ring (songs); PRAGMA application_id = 7").unwrap();
    drop(foreign);
    let before = fs::read(ring(&node)).unwrap();
    assert_refuses(&node.state_dir(), 78, "another program's SQLite file");
    assert!(fs::read(ring(&node)).unwrap() == before, "not a byte is changed");
}

#[test]
fn a_ring_of_a_newer_agent_is_left_as_it_is() {
    let newer = nodeaudit::audit::ring::SchemaVersion::CURRENT.to_number() + 1;
    // Where the newer agent was killed, only the WAL tells.
    for stays_in_wal in [false, true] {
        let (node, _) = served();
        let file = Sqlite::open(ring(&node)).unwrap();
        file.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, stays_in_wal).unwrap();
        file.execute_batch(&format!("UPDATE ring SET schema_version = {newer}; PRAGMA user_version = {newer}"))
            .unwrap();
        drop(file);
        let before = fs::read(ring(&node)).unwrap();
        assert_refuses(&node.state_dir(), 78, "schema version");
        assert!(fs::read(ring(&node)).unwrap() == before, "not a byte is changed");
    }
}

#[test]
fn a_header_that_lies_about_the_version_is_damage() {
    // The major version, the minor one, and whose file it is.
    for offset in [63, 61, 71] {
        let (node, _) = served();
        let mut bytes = fs::read(ring(&node)).unwrap();
        bytes[offset] ^= 0x20;
        fs::write(ring(&node), bytes).unwrap();
        assert_serves(node, "damaged", 1, None);
    }
}

#[test]
fn what_is_no_regular_file_is_left_as_it_is() {
    let (node, _) = served();
    let elsewhere = node.folder().join("elsewhere");
    fs::rename(ring(&node), &elsewhere).unwrap();
    symlink(&elsewhere, ring(&node)).unwrap();
    assert_refuses(&node.state_dir(), 78, "no regular file");
    fs::remove_file(ring(&node)).unwrap();
    mkfifo(&ring(&node), Mode::S_IRWXU).unwrap();
    assert_refuses(&node.state_dir(), 78, "no regular file");
    fs::remove_file(ring(&node)).unwrap();
    fs::create_dir(ring(&node)).unwrap();
    assert_refuses(&node.state_dir(), 78, "no regular file");
}

#[test]
fn a_state_folder_that_is_none_is_told() {
    let (node, _) = served();
    let file = node.folder().join("file");
    fs::write(&file, "").unwrap();
    assert_refuses(&file, 66, "Not a directory");
    assert_refuses(&file.join("below"), 66, "Not a directory");
}

#[test]
fn what_belongs_to_another_user_is_told() {
    if !can_isolate(&["/usr/bin/setpriv"]) {
        return;
    }
    let nobody = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let (node, id) = served();
    // Where nobody may enter is another question.
    fs::set_permissions(node.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let give = |path: &Path| chown(path, Some(65534), Some(65534)).unwrap();
    let (exit, log) = refusal(&nobody, &node.state_dir());
    // The key is what it looks for first.
    assert_eq!(exit, Some(66), "the folder: {log}");
    assert!(log.contains("Permission denied"), "{log}");
    give(&node.state_dir());
    give(&node.state_dir().join("token.key"));
    let (exit, log) = refusal(&nobody, &node.state_dir());
    assert_eq!(exit, Some(77), "the ring: {log}");
    assert!(log.contains("ring.sqlite") && log.contains("Permission denied"), "{log}");
    assert_serves(node, "first", 0, Some(&id));
}

#[test]
fn half_of_a_first_start_is_begun_again() {
    // An empty file, and what is left of one that was not yet given its name.
    let (node, _) = served();
    for file in fs::read_dir(node.state_dir()).unwrap().map(|file| file.unwrap().path()) {
        if !file.ends_with("token.key") {
            fs::remove_file(file).unwrap();
        }
    }
    fs::write(ring(&node), "").unwrap();
    fs::write(node.state_dir().join("ring.sqlite.new"), "SQLite").unwrap();
    let status = assert_serves(node, "first", 0, None);
    assert_eq!(status["first_seq"], Value::Null, "{status}");
}

#[test]
fn half_a_file_is_set_aside() {
    for bytes in [50, 100, 4096, 3 * 4096 + 17] {
        let (node, _) = served();
        let whole = fs::read(ring(&node)).unwrap();
        fs::write(ring(&node), &whole[..bytes]).unwrap();
        let status = assert_serves(node, "damaged", 1, None);
        assert_eq!(status["health"], "ok", "{bytes}: {status}");
    }
}

#[test]
fn a_wal_without_its_database_is_kept_and_never_taken_for_the_new_ones() {
    let agent = Node::new("audit.max_bytes = 1048576\n").start();
    let change = Request::new("POST", "/node/power/reboot").bearer(&agent.token(&["admin"]));
    (0..5).for_each(|_| drop(agent.call(&change)));
    let last = agent.read("/audit/status")["last_seq"].as_u64();
    let (node, _) = agent.stop(Signal::SIGKILL);
    fs::remove_file(ring(&node)).unwrap();
    let agent = node.start();
    agent.call(&Request::get("/health"));
    let status = agent.read("/audit/status");
    assert_eq!((&status["origin"], &status["damaged_files"]), (&json!("missing"), &json!(1)), "{status}");
    assert!(status["first_seq"].as_u64() > last, "seq goes on: {status}");
}
