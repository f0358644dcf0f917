//! The ring never exceeds its entries or its bytes, and the agent's memory stays what it is.
//!
//! Long forms: so many entries, `ROUNDS=10000000 cargo test --release --test integration bounded::the_ring -- --nocapture`; so many
//! seconds, `ROUNDS=3600 cargo test --release --test integration bounded::memory -- --nocapture`

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Agent, Callers, Calls, Connection, Load, Node, Request, eventually, now_s, progress, rounds};

const CALLERS: u64 = 32;
const MAX_BYTES: u64 = 8 << 20;
const MAX_ENTRIES: u64 = 20_000;

/// A call whose entry is as large as one can be.
fn maximal(agent: &Agent) -> impl Fn(u64) -> Request + use<> {
    let claims = json!({
        "sub": "s".repeat(256),
        "roles": (0..7).map(|number| format!("{number:064}")).chain(["read".to_owned()]).collect::<Vec<_>>(),
        "jti": "j".repeat(128),
        "exp": now_s() + 86_400,
    });
    let token = agent.sign(&claims);
    move |number| Request::get(&format!("/{number:01023}")).header("User-Agent", "u".repeat(256)).bearer(&token)
}

/// Bytes of the ring's files: what they say to have, and what the file system has given them.
fn bytes(agent: &Agent) -> (u64, u64) {
    let files = ["ring.sqlite", "ring.sqlite-wal", "ring.sqlite-shm"].map(|name| agent.node().state_dir().join(name));
    let files = files.iter().filter_map(|file| fs::metadata(file).ok());
    files.fold((0, 0), |(told, given), file| (told + file.len(), given + file.blocks() * 512))
}

/// The agent's resident memory in bytes (`proc_pid_status(5)`).
fn resident(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
}

#[test]
fn the_ring_never_exceeds_its_bytes_or_its_entries_under_the_largest_entries_and_a_slow_export() {
    let agent = Node::new(&format!("[audit]\nmax_entries = {MAX_ENTRIES}\nmax_bytes = {MAX_BYTES}\n")).start();
    let maximal = maximal(&agent);
    let entries = u64::from(rounds(20_000));
    let (ended, calls, samples) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let export = Request::get("/audit/export").bearer(&agent.token(&["auditor"])).whole();
        scope.spawn(|| {
            let export = export;
            // One export after the other, each read slowly for as long as the agent lets it.
            while !ended.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(agent.address()).unwrap();
                stream.write_all(&export).unwrap();
                while !ended.load(Ordering::Relaxed) && stream.read(&mut [0; 2_048]).is_ok_and(|read| read > 0) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let (told, given) = bytes(&agent);
                assert!(told <= MAX_BYTES && given <= MAX_BYTES, "{told} bytes, {given} on the disk");
                samples.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
        });
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(agent.address());
                    loop {
                        let call = calls.fetch_add(1, Ordering::Relaxed);
                        if call >= entries {
                            break;
                        }
                        // Some have all of it in common.
                        assert_eq!(connection.call(&maximal(call - call % 4 / 3)).status, 404);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    });
    // More of them are taken than such a small ring can store meanwhile.
    eventually("all of them are stored", || {
        (agent.read("/audit/status")["last_seq"].as_u64() >= Some(entries)).then_some(())
    });
    let newest = &agent.read("/audit?limit=1&path=/0*")["items"][0];
    assert_eq!((&newest["class"], newest["path"].as_str().unwrap().len()), (&json!("read"), 1_024), "{newest}");
    let status = agent.read("/audit/status");
    assert!(status["entries"].as_u64() <= Some(MAX_ENTRIES), "{status}");
    assert!(status["entries"].as_u64() > Some(1_000), "8 MiB hold so many of the largest: {status}");
    assert_eq!((&status["dropped"], &status["health"]), (&json!(0), &json!("ok")), "{status}");
    let samples = samples.into_inner();
    assert!(samples > 0);
    progress(&format!(
        "{entries} entries, {samples} samples, none above {MAX_BYTES} bytes; {} resident",
        resident(&agent)
    ));
}

#[test]
fn what_a_large_ring_evicts_together_fits_its_wal() {
    let agent = Node::new("[audit]\nmax_entries = 1000000\nmax_bytes = 268435456\n").start();
    let maximal = maximal(&agent);
    let mut connection = Connection::open(agent.address());
    // A page each.
    (0..100).for_each(|call| assert_eq!(connection.call(&maximal(call)).status, 404));
    let (node, _) = agent.stop(Signal::SIGTERM);
    let ring = rusqlite::Connection::open(node.state_dir().join(nodeaudit::audit::ring::FILE_NAME)).unwrap();
    let sql = "SELECT count(*), max(charge_bytes) FROM extent";
    let (extents, largest) =
        ring.query_row(sql, [], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, Option<u64>>(1)?))).unwrap();
    let wal_bytes = 4 << 20;
    assert!(extents > 0 && largest <= Some(wal_bytes / 32 + 4096), "{extents} extents, {largest:?} bytes at most");
}

#[test]
fn calls_that_are_alike_fit_the_wal_however_small_the_extents_are() {
    // Each extent stores anew what they have in common.
    for max_entries in [100, 1_000] {
        let agent = Node::new(&format!("[audit]\nmax_entries = {max_entries}\nmax_bytes = 1048576\n")).start();
        let maximal = maximal(&agent);
        thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    let mut connection = Connection::open(agent.address());
                    (0..100).for_each(|_| assert_eq!(connection.call(&maximal(0)).status, 404));
                });
            }
        });
        eventually("all of them are stored", || {
            (agent.read("/audit/status")["last_seq"].as_u64() >= Some(2_400)).then_some(())
        });
        let wal = fs::metadata(agent.node().state_dir().join("ring.sqlite-wal")).unwrap().len();
        assert!(wal <= 256 << 10, "{wal} bytes");
        // It is the ring that the next start finds.
        let (node, _) = agent.stop(Signal::SIGTERM);
        assert_eq!(node.start().read("/audit/status")["damaged_files"], 0);
    }
}

#[test]
fn limits_that_were_lowered_are_reached_within_the_wal() {
    let agent = Node::new("[audit]\nmax_entries = 20000\nmax_bytes = 1048576\n").start();
    let token = agent.token(&["read"]);
    let mut connection = Connection::open(agent.address());
    for number in 0..3_000 {
        connection.call(&Request::get(&format!("/{number:0100}")).bearer(&token));
    }
    let (before, _) = agent.stop(Signal::SIGTERM);
    let node = Node::new("[audit]\nmax_entries = 100\nmax_bytes = 1048576\n");
    fs::rename(before.state_dir(), node.state_dir()).unwrap();
    let agent = node.start();
    let wal = fs::metadata(agent.node().state_dir().join("ring.sqlite-wal")).unwrap().len();
    assert!(wal <= 256 << 10, "{wal} bytes");
    let status = agent.read("/audit/status");
    assert!((1..=100).contains(&status["entries"].as_u64().unwrap()), "{status}");
    assert!(status["last_seq"].as_u64() >= Some(3_000), "{status}");
}

#[test]
fn memory_stays_what_it_is_under_mixed_load() {
    let agent = Node::new("[audit]\nmax_entries = 20000\nmax_bytes = 16777216\n").start();
    let seconds: u64 = rounds(6).into();
    let callers = Callers { number: 32, calls: Calls::Mixed, pause: Duration::ZERO };
    let began = Instant::now();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for path in ["/health", "/nothing", "/node/hostname"] {
            let (agent, ended) = (&agent, &ended);
            scope.spawn(move || {
                let mut connection = Connection::open(agent.address());
                while !ended.load(Ordering::Relaxed) {
                    connection.call(&Request::get(path));
                }
            });
        }
        // Each load has its own token, which lives for ten minutes.
        let load_until = |second: u64| {
            while let Some(left) = Duration::from_secs(second).checked_sub(began.elapsed()) {
                let load = Load::start(&agent, "soak", callers);
                thread::sleep(left.min(Duration::from_mins(5)));
                assert!(!load.end().is_empty());
            }
        };
        load_until((seconds / 3).min(60));
        let early = resident(&agent);
        load_until(seconds);
        let late = resident(&agent);
        ended.store(true, Ordering::Relaxed);
        progress(&format!("resident {early} bytes early, {late} after {seconds} s"));
        assert!(late < early + early / 5 + (2 << 20), "resident memory went from {early} to {late} bytes");
    });
}
