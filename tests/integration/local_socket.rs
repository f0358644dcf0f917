//! The Unix socket: who is at the other end is known by the kernel, recorded, and may read the audit or not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Agent, Node, can_isolate};

const CURL: &str = "/usr/bin/curl";
const SETPRIV: &str = "/usr/bin/setpriv";

/// Groups of the node: whose members may read, and another one.
const AUDITORS: u32 = 54_001;
const OTHERS: u32 = 54_002;

/// A node whose users are its own, with a socket that every user of the machine can reach.
fn node(config: &str) -> Node {
    let node = Node::new("");
    let root = node.folder().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nops:x:54000:54000::/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), format!("root:x:0:\nauditors:x:{AUDITORS}:\nothers:x:{OTHERS}:\n")).unwrap();
    let random = root.join("proc/sys/kernel/random");
    fs::create_dir_all(&random).unwrap();
    fs::copy("/proc/sys/kernel/random/boot_id", random.join("boot_id")).unwrap();
    fs::set_permissions(node.folder(), Permissions::from_mode(0o711)).unwrap();
    let config =
        format!("host.root = \"{}\"\nserver.socket = \"{}\"\n{config}", root.display(), socket(&node).display());
    fs::write(node.folder().join("nodeaudit.toml"), config).unwrap();
    node
}

fn socket(node: &Node) -> PathBuf {
    node.folder().join("nodeaudit.sock")
}

/// Calls through the socket as the user and with the groups that `setpriv` is told of; as root where it is told nothing. Gives status
/// and body.
fn call(agent: &Agent, whose: &[&str], arguments: &[&str], path: &str) -> (u16, Value) {
    let mut command = if whose.is_empty() { Command::new(CURL) } else { Command::new(SETPRIV) };
    if !whose.is_empty() {
        command.args(whose).arg(CURL);
    }
    command.args(["-sS", "-w", "\n%{http_code}", "--unix-socket"]).arg(socket(agent.node())).args(arguments);
    let output = command.arg(format!("http://node{path}")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// The newest entry of calls that came through the socket.
fn newest(agent: &Agent) -> Value {
    agent.read("/audit?source_ip=::&limit=1")["items"][0].take()
}

#[test]
fn root_reads_the_audit_without_a_token_and_changes_nothing() {
    if !can_isolate(&[CURL]) {
        return;
    }
    let agent = node("").start();
    assert_eq!(call(&agent, &[], &[], "/audit").0, 200);
    let entry = newest(&agent);
    let told = ["user", "auth_method", "source_ip", "class", "response_code", "roles"].map(|name| &entry[name]);
    let expected = [json!("root"), json!("unix"), json!("::"), json!("read"), json!(200), json!([])];
    assert_eq!(told, expected.each_ref());
    for path in ["/audit/status", "/audit/export", "/metrics", "/version"] {
        let status = call(&agent, &[], &["-o", "/dev/null", "-w", "{}\n%{http_code}"], path).0;
        assert_eq!(status, 200, "{path}");
    }
    let put = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", "{\"hostname\": \"evil\"}"];
    for (arguments, path) in
        [(&put[..], "/node/hostname"), (&["-X", "POST"], "/node/power/reboot"), (&[], "/node/load")]
    {
        assert_eq!(call(&agent, &[], arguments, path).0, 403, "{path}");
        let entry = newest(&agent);
        assert_eq!((&entry["user"], &entry["class"], &entry["path"]), (&json!("root"), &json!("denied"), &json!(path)));
    }
}

#[test]
fn a_token_counts_for_more_than_the_user() {
    if !can_isolate(&[CURL]) {
        return;
    }
    let agent = node("").start();
    let with = |token: &str| format!("Authorization: Bearer {token}");
    let reader = with(&agent.token(&["read"]));
    assert_eq!(call(&agent, &[], &["-H", &reader], "/version").0, 200);
    let entry = newest(&agent);
    assert_eq!((&entry["user"], &entry["auth_method"]), (&json!("tester@example.com"), &json!("bearer")));
    assert_eq!(call(&agent, &[], &["-H", &reader], "/audit").0, 403);
    assert_eq!(call(&agent, &[], &["-H", &with("no.good.token")], "/audit").0, 401, "a bad one is not made up for");
    // What a caller says of others is not believed, whoever is a trusted proxy.
    call(&agent, &[], &["-H", "X-Forwarded-For: 192.0.2.1"], "/audit");
    assert_eq!(newest(&agent).get("forwarded_for"), None);
}

#[test]
fn members_of_the_group_read_and_others_are_refused_and_named() {
    if !can_isolate(&[CURL, SETPRIV]) {
        return;
    }
    let agent = node("server.socket_group = \"auditors\"\n").start();
    let users: [(&[&str], &str, u16); 5] = [
        (&["--reuid=54000", "--regid=54000", "--clear-groups"], "ops", 401),
        (&["--reuid=54000", "--regid=54000", "--groups=54002,54001"], "ops", 200),
        (&["--reuid=54000", "--regid=54001", "--clear-groups"], "ops", 200),
        (&["--reuid=54009", "--regid=54002", "--groups=54002"], "uid:54009", 401),
        // Root's group is not root.
        (&["--reuid=54009", "--regid=0", "--clear-groups"], "uid:54009", 401),
    ];
    for (whose, user, status) in users {
        assert_eq!(call(&agent, whose, &[], "/audit").0, status, "{whose:?}");
        let entry = newest(&agent);
        let class = if status == 200 { "read" } else { "denied" };
        let told = ["user", "auth_method", "class", "response_code"].map(|name| &entry[name]);
        assert_eq!(told, [json!(user), json!("unix"), json!(class), json!(status)].each_ref(), "{whose:?}");
    }
    // What anyone may do leaves what anyone leaves: no user of the node can push out what is known of others.
    assert_eq!(call(&agent, users[0].0, &[], "/health").0, 200);
    assert_eq!(newest(&agent)["class"], "denied");
    assert_eq!(call(&agent, users[0].0, &[], "/nothing").0, 404);
    assert_eq!(newest(&agent)["class"], "denied");
}

#[test]
fn where_users_cannot_be_told_apart_the_group_lets_nobody_in() {
    if !can_isolate(&[CURL, SETPRIV]) {
        return;
    }
    let node = node("server.socket_group = \"auditors\"\n");
    let map = node.folder().join("root/proc/self/uid_map");
    fs::create_dir_all(map.parent().unwrap()).unwrap();
    // What the unit's PrivateUsers= gives.
    fs::write(map, "0 0 1\n997 997 1\n").unwrap();
    let agent = node.start();
    let whose: [(&[&str], &str, u16); 3] = [
        (&["--reuid=54000", "--regid=54001", "--clear-groups"], "ops", 401),
        (&["--reuid=65534", "--regid=54001", "--clear-groups"], "unmapped", 401),
        (&[], "root", 200),
    ];
    for (whose, user, status) in whose {
        assert_eq!(call(&agent, whose, &[], "/audit").0, status, "{whose:?}");
        let entry = newest(&agent);
        assert_eq!((&entry["user"], &entry["response_code"]), (&json!(user), &json!(status)), "{whose:?}");
    }
    assert!(agent.stop(Signal::SIGTERM).1.contains("users can't be told apart"));
}

#[test]
fn what_the_library_refuses_is_recorded_with_its_user() {
    if !can_isolate(&[CURL]) {
        return;
    }
    let agent = node("").start();
    let mut stream = std::os::unix::net::UnixStream::connect(socket(agent.node())).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /a HTTP/9\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let entry = newest(&agent);
    assert_eq!((&entry["user"], &entry["outcome"]), (&json!("root"), &json!("rejected")), "{entry}");
}

#[test]
fn the_socket_is_there_while_the_agent_is_whatever_ended_the_last_one() {
    if !can_isolate(&[CURL]) {
        return;
    }
    let mut node = node("");
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        let agent = node.start();
        let path = socket(agent.node());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(call(&agent, &[], &[], "/audit").0, 200);
        node = agent.stop(signal).0;
        assert_eq!(path.exists(), signal == Signal::SIGKILL, "{signal}");
    }
    // Another one's is left alone, and so is what is no socket.
    let path = socket(&node);
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let (node, log) = node.try_start().err().unwrap();
    assert!(log.contains("nodeaudit.sock") && log.contains("another process listens there"), "{log}");
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    drop(other);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let (_node, log) = node.try_start().err().unwrap();
    assert!(log.contains("nodeaudit.sock") && log.contains("something else than a socket"), "{log}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn the_socket_is_in_the_folder_that_systemd_makes_unless_it_is_told_otherwise() {
    let node = Node::new("");
    let folder = node.folder().join("run");
    fs::create_dir(&folder).unwrap();
    let agent = node.variable("RUNTIME_DIRECTORY", &folder).start();
    let file = folder.join("nodeaudit.sock");
    assert!(fs::symlink_metadata(&file).unwrap().file_type().is_socket());
    let (node, _) = agent.stop(Signal::SIGTERM);
    assert!(!file.exists());
    fs::write(node.folder().join("nodeaudit.toml"), "server.socket = \"\"\n").unwrap();
    let _agent = node.start();
    assert!(!file.exists());
}
