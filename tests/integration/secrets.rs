//! Secrets that callers send, or that the agent holds, are nowhere but where they belong.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    let client = TlsClient::new(&authority.certificate, None);
    let agent = own.node(client, "[log]\nlevel = \"trace\"").start();
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

const PAGE_BYTES: usize = 4096;

/// The memory of a process that it can write to, without pages of zeros, which are most of it. None where it can't be read.
fn memory(pid: u32) -> Option<Vec<u8>> {
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        memory.seek(SeekFrom::Start(from)).ok()?;
        let mut region = Vec::new();
        // What can't be read, such as a page that was given back meanwhile, holds nothing.
        let _ = (&mut memory).take(to - from).read_to_end(&mut region);
        found.extend(region.chunks(PAGE_BYTES).filter(|page| *page != [0; PAGE_BYTES]).flatten());
    }
    Some(found)
}

#[test]
fn no_copy_of_the_tls_key_stays_in_memory_once_it_is_read() {
    let authority = Authority::new();
    let own = authority.issue("node");
    let agent = own.node(TlsClient::new(&authority.certificate, None), "").start();
    // Read again and again: what comes after a start can hide in it what was left over.
    let token = agent.token(&["admin"]);
    for count in 1..=8 {
        agent.reload(&token, (count, 0));
    }
    let Some(memory) = memory(agent.pid()) else {
        skipped("the memory of another process can't be read");
        return;
    };
    let body = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect::<Vec<_>>();
    let der = |pem: &str| STANDARD.decode(body(pem).concat()).unwrap();
    let holds = |part: &[u8]| memory.windows(part.len()).any(|window| window == part);
    assert!(holds(&der(&own.certificate)), "the control: the certificate is there");
    for line in body(&own.key).iter().filter(|line| line.len() > 32) {
        assert!(!holds(line.as_bytes()), "a line of PEM");
    }
    // `ECPrivateKey` of RFC 5915, from its version to the end of the private number. The number alone is what ring works with.
    let (key, begin) = (der(&own.key), [2, 1, 1, 4, 32]);
    let at = key.windows(begin.len()).position(|window| window == begin).unwrap();
    assert!(!holds(&key[at..at + begin.len() + 32]), "DER");
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
