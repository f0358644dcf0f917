//! The wall clock lies: it stands before or far after its time, or jumps. Only what an entry says of the time may be wrong then, and
//! while it is before a time that has been, no token is accepted.
//!
//! The clock is libfaketime's, as a file says; the monotonic clocks are the kernel's. Short form: with all other tests. Long form,
//! such as a thousand jumps: `ROUNDS=1000 cargo test --release --test integration clocks -- --nocapture`

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    AUDIENCE, Agent, Authority, Connection, ISSUER, Issuer, Node, Pair, Request, TlsClient, eventually, now_s,
    progress, rounds, skipped,
};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// How long a clock stands between two jumps.
const JUMP_PAUSE: Duration = Duration::from_millis(100);

/// Calls of a caller in a test that does not count jumps.
const CALLS: usize = 30;

/// Seconds from 1970 to 2101: farther apart no two clocks of a test that jumps are.
const FARTHEST_S: u64 = 131 * 366 * 86_400;

/// The wall clock of a node.
#[derive(Clone)]
struct Clock(PathBuf);

impl Clock {
    /// A node on which the wall clock shows `time`, in libfaketime's words. None where that library is missing; it says so loudly.
    fn of(time: &str) -> Option<(Node, Self)> {
        // Tokens are good for longer than any clock here goes; while it is too early they are refused, each call with an entry.
        let config =
            "auth.max_lifetime_s = 0\naudit.denied_entries = 4096\n[limits]\npeer_per_s = 0\nfailures_per_min = 0\n";
        Self::on(Node::new(config), time)
    }

    /// The same for this node.
    fn on(node: Node, time: &str) -> Option<(Node, Self)> {
        let library = LIBRARY.replace("x86_64", std::env::consts::ARCH);
        if !Path::new(&library).exists() {
            skipped(&format!("this test needs libfaketime ({library})"));
            return None;
        }
        let clock = Self(node.folder().join("clock"));
        clock.set(time);
        let node = node
            .variable("LD_PRELOAD", library)
            .variable("FAKETIME_TIMESTAMP_FILE", &clock.0)
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("DONT_FAKE_MONOTONIC", "1")
            .variable("TZ", "UTC");
        Some((node, clock))
    }

    /// From now on it shows this. The file is never there in part.
    fn set(&self, time: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, time).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    /// It jumps from one of these times to the next until the sender is dropped. What comes is the number of jumps so far.
    fn jump(self, times: &'static [&'static str]) -> (Sender<()>, Arc<AtomicU32>) {
        let (stop, stopped) = mpsc::channel();
        let jumps = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&jumps);
        thread::spawn(move || {
            for time in times.iter().cycle() {
                self.set(time);
                counter.fetch_add(1, Ordering::Relaxed);
                // The pause is part of the fault.
                if stopped.recv_timeout(JUMP_PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        (stop, jumps)
    }
}

/// Has the agent of a node, which is configured in this folder, show this certificate, and let in the fleet's manager by his.
fn trust_certificates(folder: &Path, authority: &Authority, own: &Pair) {
    own.write(folder);
    fs::write(folder.join("ca"), &authority.certificate).unwrap();
    let (at, file) = (folder.display(), folder.join("nodeaudit.toml"));
    let text = fs::read_to_string(&file).unwrap();
    let tls = format!(
        "{text}\n[tls]\ncertificate = \"{at}/crt\"\nkey = \"{at}/key\"\nclient_ca = \"{at}/ca\"\nclient_auth = \"required\"\n\
         roles.\"CN=fleet-manager,O=Example\" = [\"read\"]\n"
    );
    fs::write(file, tls).unwrap();
}

#[test]
fn a_certificate_that_expires_on_an_open_connection_counts_no_more() {
    let Some((node, clock)) = Clock::of("+0") else { return };
    let authority = Authority::new();
    let manager = authority.issue_until("fleet-manager", now_s() + 86_400);
    let own = authority.issue("node");
    let folder = node.folder().to_owned();
    trust_certificates(&folder, &authority, &own);
    let agent = node.over_tls(TlsClient::new(&authority.certificate, Some(&manager))).start();

    let mut connection = agent.connect();
    assert_eq!(connection.call(&Request::get("/node/hostname")).status, 200);
    clock.set("+2d");
    let refused = connection.call(&Request::get("/node/hostname"));
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("The certificate expired"), "{}", refused.text());
    // Who is no more than a token says, may still call.
    let token = token(&agent);
    let entry = connection.call(&Request::get(&format!("/audit/{}", refused.audit_id())).bearer(&token)).json();
    assert_eq!((&entry["entry"]["class"], &entry["entry"]["user"]), (&json!("denied"), &json!("")));
}

/// A token that is good for longer than any clock of these tests goes. Nothing is accepted by one that is before this program.
fn token(agent: &Agent) -> String {
    agent.sign(&json!({"sub": "tester@example.com", "roles": ["admin"], "exp": 9_000_000_000_000_i64}))
}

/// Reads the ring again and again on one connection.
struct Look(Connection, String);

impl Look {
    fn at(agent: &Agent) -> Self {
        Self(Connection::open(agent.address()), token(agent))
    }

    fn read(&mut self, path: &str) -> Value {
        let response = self.0.call(&Request::get(path).bearer(&self.1));
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// All entries until now, newest first, as pages give them.
    fn pages(&mut self) -> Vec<Value> {
        let mut entries: Vec<Value> = Vec::new();
        let end = self.read("/audit/status")["last_seq"].as_u64().unwrap();
        loop {
            // Each look is a call with an entry of its own, which moves the others back.
            let newest = self.read("/audit?limit=1")["items"][0]["seq"].as_u64().unwrap();
            let offset = newest + 1 - end + entries.len() as u64;
            let page = self.read(&format!("/audit?limit=100&offset={offset}"));
            match page["items"].as_array().unwrap().as_slice() {
                [] => return entries,
                items => entries.extend(items.iter().cloned()),
            }
        }
    }
}

/// Calls of all classes, one after the other while `goes_on` says so of their number. Gives the IDs that the responses named.
fn calls(agent: &Agent, goes_on: impl Fn(usize) -> bool) -> Vec<String> {
    let token = token(agent);
    let requests = [
        Request::get("/node/load").bearer(&token),
        Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#).bearer(&token),
        Request::get("/health"),
    ];
    let numbers = (0..).take_while(|&number| goes_on(number));
    // A connection each: one with a refused body ends.
    numbers.map(|number| agent.call(&requests[number % 3]).audit_id().to_owned()).collect()
}

/// What holds whatever the clock did: nothing is lost, `seq` orders, each ID is unique and found, each entry tells how far its time
/// can be believed, and the ring describes itself. `callers` are the IDs that each caller was given. Gives all entries.
#[track_caller]
fn assert_whole(agent: &Agent, callers: &[Vec<String>], horizon_max_s: u64) -> Vec<Value> {
    let mut look = Look::at(agent);
    let entries = look.pages();
    let seqs: Vec<u64> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    let falling: Vec<u64> = (1..=seqs[0]).rev().collect();
    assert_eq!(seqs, falling, "pages are ordered by seq, and nothing is missing");

    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for entry in &entries {
        let id = entry["id"].as_str().unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7, "{entry}");
        assert_eq!(&look.read(&format!("/audit/{id}"))["entry"], entry, "the same by its ID");
        assert_eq!(entry["boot_id"], boot_id.trim(), "{entry}");
        assert_eq!(entry["clock_synced"], nodeaudit::host::clock::is_synchronised(), "{entry}");
        let timestamp = entry["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{entry}");
    }

    let by_id: HashMap<&str, &Value> = entries.iter().map(|entry| (entry["id"].as_str().unwrap(), entry)).collect();
    assert_eq!(by_id.len(), entries.len(), "IDs are unique");
    for ids in callers {
        let order_of = |id: &String| {
            let entry = by_id.get(id.as_str()).unwrap_or_else(|| panic!("no entry {id}"));
            (entry["seq"].as_i64().unwrap(), entry["monotonic_us"].as_i64().unwrap())
        };
        let order: Vec<(i64, i64)> = ids.iter().map(order_of).collect();
        let rises = |pair: &[(i64, i64)]| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1;
        assert!(order.windows(2).all(rises), "seq and monotonic time of one caller's calls: {order:?}");
    }

    let status = look.read("/audit/status");
    for lost in ["evicted", "dropped", "damaged_files"] {
        assert_eq!(status[lost], 0, "{lost}: {status}");
    }
    for class in status["classes"].as_array().unwrap() {
        assert!(class["horizon_seconds"].as_u64().is_some_and(|horizon_s| horizon_s < horizon_max_s), "{status}");
    }
    entries
}

/// The year that an entry says.
fn year(entry: &Value) -> &str {
    &entry["timestamp"].as_str().unwrap()[..4]
}

#[test]
fn a_clock_that_stands_wrong_costs_no_entry() {
    // From the first to the last year that Linux lets a clock show: settimeofday(2) refuses a time before 1970, and one from which
    // a long uptime could pass 2262, where its nanoseconds end.
    let clocks = [
        ("@1970-01-01 00:00:00", "1970"),
        ("@1970-01-01 00:00:57", "1970"),
        ("@2038-01-19 03:14:06", "2038"),
        ("@2100-01-01 00:00:00", "2100"),
        ("@2232-01-01 00:00:00", "2232"),
    ];
    for (time, expected) in clocks {
        let Some((node, clock)) = Clock::of(time) else { return };
        let agent = node.start();
        let ids = calls(&agent, |number| number < CALLS);
        // To look at it, the clock must be right.
        clock.set("+0");
        let later = calls(&agent, |number| number < 3);
        let entries = assert_whole(&agent, &[ids.clone(), later], FARTHEST_S);
        let then: Vec<&Value> = entries.iter().filter(|entry| ids.iter().any(|id| entry["id"] == **id)).collect();
        assert!(then.len() == CALLS && then.iter().all(|entry| year(entry) == expected), "{time}: {then:#?}");
        let refused = then.iter().filter(|entry| entry["response_code"] == 401).count();
        assert_eq!(refused, if expected == "1970" { CALLS * 2 / 3 } else { 0 }, "{time}: calls with a token");
    }
}

#[test]
fn a_clock_that_jumps_by_decades_under_load_costs_no_entry() {
    let jumps_wanted = rounds(8);
    let Some((node, clock)) = Clock::of("+0") else { return };
    let agent = node.start();
    let (stop, jumps) = clock.clone().jump(&["+50y", "@1970-01-01 00:00:01", "-50y", "@2100-01-01 00:00:00"]);
    let call = || calls(&agent, |_| jumps.load(Ordering::Relaxed) < jumps_wanted);
    let callers = thread::scope(|scope| [(); 3].map(|()| scope.spawn(call)).map(|caller| caller.join().unwrap()));
    drop(stop);
    // The thread that jumps may be at its last one still.
    eventually("the right time", || {
        clock.set("+0");
        let response = agent.call(&Request::get("/node/time").bearer(&token(&agent)));
        (response.status == 200 && response.json()["time"].as_str().is_some_and(|time| time.starts_with("20")))
            .then_some(())
    });
    let entries = assert_whole(&agent, &callers, FARTHEST_S);
    progress(&format!("{jumps_wanted} jumps, {} entries", entries.len()));

    // The control: by the clock they are in no order.
    let years: Vec<&str> = entries.iter().map(year).collect();
    assert!(years.contains(&"1970") && years.contains(&"2100"), "the clock did not jump: {years:?}");
    assert!(!years.is_sorted_by(|newer, older| newer >= older), "the clock never went back");
    let (_, log) = agent.stop(Signal::SIGTERM);
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_restart_under_a_clock_that_went_back_goes_on_counting() {
    let Some((mut node, clock)) = Clock::of("+0") else { return };
    let mut callers: Vec<Vec<String>> = Vec::new();
    let mut epochs = HashSet::new();
    for time in ["@2100-01-01 00:00:00", "@1970-01-01 00:00:01", "+0"] {
        clock.set(time);
        let agent = node.start();
        callers.push(calls(&agent, |number| number < CALLS));
        clock.set("+0");
        assert_whole(&agent, &callers, FARTHEST_S);
        epochs.insert(Look::at(&agent).read("/audit/status")["epoch"].to_string());
        node = agent.stop(Signal::SIGTERM).0;
    }
    assert_eq!(epochs.len(), 1, "it is the same ring: {epochs:?}");
}

#[test]
fn no_token_is_accepted_before_a_time_that_has_been() {
    let Some(issuer) = Issuer::new() else { return };
    let config = "max_lifetime_s = 0\n[audit]\ndenied_entries = 4096\n[limits]\npeer_per_s = 0\nfailures_per_min = 0\n";
    let Some((node, clock)) = Clock::on(issuer.node(config), "+0") else { return };
    let agent = node.start();
    let at = |agent: &Agent, iat: i64, exp: i64| {
        let claims = json!({
            "sub": "ada", "roles": ["admin"], "iss": ISSUER, "aud": AUDIENCE, "iat": iat, "exp": exp,
        });
        let token = issuer.sign("ed", Algorithm::EdDSA, r#"{"alg":"EdDSA","kid":"ed"}"#, &claims.to_string());
        agent.call(&Request::get("/node/hostname").bearer(&token))
    };
    // An old token, accepted, says nothing of now; a new one does.
    let (hour, now) = (3_600, now_s());
    assert_eq!(at(&agent, now - 10 * hour, now + hour).status, 200);
    assert_eq!(at(&agent, now - 20 * hour, now - 9 * hour).status, 401, "it has expired");
    clock.set("-10h");
    assert_eq!(at(&agent, now - 20 * hour, now - 9 * hour).status, 200, "a clock that goes back lets it live again");
    clock.set("+0");
    assert_eq!(at(&agent, now, now + hour).status, 200);
    let (node, _) = agent.stop(Signal::SIGTERM);

    // The board boots in the past: what expired then must not live again, and nothing else is believed either.
    clock.set("-10h");
    let agent = node.start();
    for (iat, exp) in [(now - 20 * hour, now - 9 * hour), (now - 20 * hour, now + hour)] {
        let response = at(&agent, iat, exp);
        assert_eq!(response.status, 401, "{}", response.text());
        assert!(response.text().contains("clock is behind"), "{}", response.text());
    }
    let forged = issuer.sign("rsa", Algorithm::RS256, r#"{"alg":"EdDSA","kid":"ed"}"#, "{}");
    let response = agent.call(&Request::get("/node/hostname").bearer(&forged));
    assert!(!response.text().contains("clock"), "a stranger is not told: {}", response.text());
    assert_eq!(agent.call(&Request::get("/health")).status, 200);
    clock.set("+0");
    assert_eq!(at(&agent, now, now + hour).status, 200, "a clock that is set is believed again");
}

#[test]
fn no_certificate_is_accepted_before_a_time_that_has_been() {
    let authority = Authority::new();
    let (manager, own) = (authority.issue("fleet-manager"), authority.issue("node"));
    let node = Node::new("").over_tls(TlsClient::new(&authority.certificate, Some(&manager)));
    let folder = node.folder().to_owned();
    trust_certificates(&folder, &authority, &own);
    fs::create_dir(node.state_dir()).unwrap();
    fs::set_permissions(node.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let floor = node.state_dir().join("time.floor");
    fs::write(&floor, format!("{}\n", now_s() + 3_600)).unwrap();
    let agent = node.start();
    let refused = agent.call(&Request::get("/node/hostname"));
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("clock is behind"), "{}", refused.text());
    let (node, _) = agent.stop(Signal::SIGTERM);
    fs::remove_file(floor).unwrap();
    let agent = node.start();
    assert_eq!(agent.call(&Request::get("/node/hostname")).status, 200, "the control");
}
