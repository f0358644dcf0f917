//! Secrets that callers send, or that the agent holds, are nowhere but where they belong.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{Authority, Connection, Node, Request, TlsClient, can_isolate, eventually, skipped};

/// What no file and no line of the log may hold.
const SECRET: &str = "HUNTER2-correct-horse-battery-staple";

#[test]
fn nothing_that_a_caller_keeps_secret_reaches_the_ring_or_the_log() {
    let authority = Authority::new();
    let own = authority.issue("node");
    let node = Node::new("").over_tls(TlsClient::new(&authority.certificate, None));
    let folder = node.folder().to_owned();
    fs::write(folder.join("crt"), &own.certificate).unwrap();
    fs::write(folder.join("key"), &own.key).unwrap();
    fs::set_permissions(folder.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
    let at = folder.display();
    fs::write(
        folder.join("nodeaudit.toml"),
        format!("[tls]\ncertificate = \"{at}/crt\"\nkey = \"{at}/key\"\n[log]\nlevel = \"trace\"\n"),
    )
    .unwrap();
    let agent = node.start();
    let token = agent.token(&["admin"]);
    let signature = token.rsplit('.').next().unwrap().to_owned();
    let key = fs::read_to_string(agent.node().state_dir().join("token.key")).unwrap();
    let foreign = crate::support::sign(&json!({"sub": SECRET, "exp": 4_000_000_000_u64}), &[b'x'; 32]);

    let calls = [
        Request::get("/node/hostname").header("X-Api-Key", SECRET).header("Cookie", SECRET).bearer(&token),
        Request::get("/node/hostname").header("Authorization", format!("Basic {SECRET}")),
        Request::get("/node/hostname").bearer(SECRET),
        Request::get("/node/hostname").bearer(&foreign),
        Request::get("/node/hostname").bearer(&token).bearer(SECRET),
        Request::get(&format!("/node/hostname?token={SECRET}")).bearer(&token),
        Request::get(&format!("/audit?limit={SECRET}")).bearer(&token),
        Request::get(&format!("/nowhere?{SECRET}")),
        Request::new("PUT", "/node/hostname").bearer(&token).json(&format!("{{\"hostname\": \"{SECRET}_\"}}")),
        Request::new("PUT", "/node/timezone").bearer(&token).json(&format!("{{\"timezone\": \"{SECRET}\"}}")),
        Request::new("PUT", "/node/hostname").bearer(&token).json(&format!("{{\"{SECRET}\"")),
        Request::new("POST", "/node/power/reboot").body(SECRET),
        Request::get("/node/hostname").header("traceparent", format!("00-{SECRET}")).header("X-Forwarded-For", SECRET),
        Request::get("/node/hostname").header("Host", SECRET),
    ];
    for request in &calls {
        let _ = agent.connect().try_call(request);
    }
    let malformed = [
        format!("GET http://user:{SECRET}@node/ HTTP/9\r\n\r\n"),
        format!("GET /health?{SECRET} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        format!("{SECRET}\r\n\r\n"),
        format!("GET /health HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\n"),
    ];
    for bytes in &malformed {
        let mut connection: Connection = agent.connect();
        connection.send(bytes.as_bytes());
        let _ = connection.try_call(&Request::get("/health"));
        // And past TLS.
        let mut plain = TcpStream::connect(agent.address()).unwrap();
        plain.write_all(bytes.as_bytes()).unwrap();
        let _ = plain.read_to_end(&mut Vec::new());
    }
    assert!(agent.read("/audit/status")["entries"].as_u64().unwrap() >= calls.len() as u64);

    let state_dir = agent.node().state_dir();
    let (node, log) = agent.end();
    let mut searched = vec![("log".to_owned(), log.into_bytes())];
    for entry in fs::read_dir(&state_dir).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("token.key") {
            searched.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    assert!(
        searched.iter().any(|(name, bytes)| name.ends_with("ring.sqlite-wal") && !bytes.is_empty()),
        "killed: a WAL is left"
    );
    let inner_key = own.key.lines().nth(1).unwrap();
    for secret in [SECRET, &token, &signature, key.trim(), &foreign, inner_key] {
        for (name, bytes) in &searched {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{name} holds {secret}");
        }
    }
    drop(node);
}

#[test]
fn a_crash_leaves_no_core_with_the_keys_in_it() {
    const PRLIMIT: &str = "/usr/bin/prlimit";
    if !can_isolate(&[PRLIMIT]) {
        return;
    }
    let unlimited = "--core=unlimited:unlimited";
    let crash = |pid: u32| kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGABRT).unwrap();
    // Whether this machine writes cores at all.
    let folder = tempfile::tempdir().unwrap();
    let mut control = Command::new(PRLIMIT);
    let mut control = control.args([unlimited, "sleep", "60"]).current_dir(folder.path()).spawn().unwrap();
    eventually("the control's own program", || {
        let name = fs::read_to_string(format!("/proc/{}/comm", control.id())).unwrap_or_default();
        (name == "sleep\n").then_some(())
    });
    crash(control.id());
    if !control.wait().unwrap().core_dumped() {
        skipped("this machine writes no core dumps");
        return;
    }
    let agent = Node::new("").launched(&[PRLIMIT, unlimited]).start();
    crash(agent.pid());
    assert!(!agent.await_status().core_dumped(), "a core holds the keys");
}
