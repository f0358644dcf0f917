//! Strict is strict: no byte of a response leaves before the sync of its entry has returned, by the agent's calls to the kernel.
//!
//! Each request has a marker of its own as user agent. It is found in what the agent receives, in what it writes to the WAL, and by the
//! connection in what it sends.

use std::collections::HashMap;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{
    Connection, Node, Request, STRACE, SystemCall, Trace, can_isolate, eventually, progress, rounds, traced,
};

const CALLS: &str = "recvfrom,read,sendto,write,writev,sendmsg,pwrite64,fdatasync,fsync,sethostname";
const CONNECTIONS: u32 = 64;
const WAL: &str = "/ring.sqlite-wal";

/// Ends a marker, so that none is the beginning of another one.
fn marker(number: u32) -> String {
    format!("marker-{number:07};")
}

/// The markers in what a call moved.
fn markers(call: &SystemCall) -> impl Iterator<Item = &str> {
    let parts = call.arguments.split("marker-").skip(1);
    parts.filter_map(|part| part.get(..8).filter(|marker| marker.ends_with(';')))
}

/// Makes so many calls over many connections to an agent with this configuration, and gives what it asked of the kernel.
fn trace(config: &str, requests: u32) -> Option<Trace> {
    if !can_isolate(&[STRACE]) {
        return None;
    }
    let node = Node::new(config);
    let file = node.folder().join("trace");
    let agent = node.launched(&traced(&file, CALLS)).start();
    let admin = agent.token(&["admin"]);
    // A read, a refusal, and a change that --dev refuses after its intent is stored.
    let kinds = [
        Request::get("/node/load").bearer(&admin),
        Request::get("/node/load"),
        Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#).bearer(&admin),
    ];
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (agent, kinds) = (&agent, &kinds);
            scope.spawn(move || {
                let mut calls = Connection::open(agent.address());
                for number in (connection..requests).step_by(CONNECTIONS as usize) {
                    let kind = &kinds[(number / CONNECTIONS) as usize % kinds.len()];
                    let response = calls.call(&kind.clone().header("User-Agent", marker(number)));
                    assert!([200, 401, 503].contains(&response.status), "{response:?}");
                    assert!(!response.text().contains("can't be recorded"), "{}", response.text());
                }
            });
        }
    });
    let _node = agent.stop(Signal::SIGTERM);
    Some(Trace::read(&file))
}

/// The responses, and those of them whose entry was not synced before their first byte left.
fn early(Trace(calls): &Trace) -> (usize, Vec<String>) {
    // For changes the last write before the response counts: the first is that of the intent.
    let mut written: HashMap<&str, Vec<&SystemCall>> = HashMap::new();
    for call in calls.iter().filter(|call| call.is("pwrite64", WAL)) {
        markers(call).for_each(|marker| written.entry(marker).or_default().push(call));
    }
    let syncs: Vec<_> = calls.iter().filter(|call| call.is("fdatasync", WAL) || call.is("fsync", WAL)).collect();
    let is_synced = |write: &SystemCall, response: &SystemCall| {
        let first = syncs.partition_point(|sync| sync.entered < write.left);
        syncs.get(first).is_some_and(|sync| sync.left < response.entered)
    };
    let mut asked: HashMap<&str, (&str, bool)> = HashMap::new();
    let mut responses = 0;
    let mut early = Vec::new();
    for call in calls.iter().filter(|call| call.target.starts_with("TCP") && call.result > 0) {
        if let Some(marker) = markers(call).next() {
            asked.insert(&call.target, (marker, call.arguments.contains("PUT /")));
        } else if call.arguments.contains("HTTP/1.1 ")
            && let Some((marker, is_change)) = asked.remove(call.target.as_str())
        {
            responses += 1;
            let before = written.get(marker).into_iter().flatten().filter(|write| write.left < call.entered);
            let synced = before.filter(|write| is_synced(write, call)).count();
            // The intent and the outcome of a change are written in two transactions.
            if synced < 1 + usize::from(is_change) {
                early.push(marker.to_owned());
            }
        }
    }
    (responses, early)
}

#[test]
fn no_strict_response_leaves_before_the_sync_of_its_entry_returned() {
    let requests = rounds(1_500);
    let durability = |durability: &str| {
        let class = |class| format!("[audit.{class}]\ndurability = \"{durability}\"\nwindow_ms = 200\n");
        ["change", "read", "denied"].map(class).concat() + "[server]\nmax_connections_per_peer = 512\n"
    };
    let Some(strict) = trace(&durability("strict"), requests) else { return };
    let (responses, violations) = early(&strict);
    progress(&format!("{responses} strict responses, {} before their sync", violations.len()));
    assert_eq!(responses, requests as usize, "each response is seen");
    assert!(violations.is_empty(), "before the sync of its entry: {violations:?}");

    let control = trace(&durability("relaxed"), requests.min(1_500)).unwrap();
    let (responses, violations) = early(&control);
    progress(&format!("{responses} relaxed responses, {} before their sync", violations.len()));
    assert!(violations.len() > responses / 2, "the control: a relaxed class does not wait, {}", violations.len());
}

#[test]
fn an_intent_is_synced_before_its_act_and_the_outcome_before_the_answer() {
    if !can_isolate(&[STRACE, "/usr/bin/unshare"]) {
        return;
    }
    let private_node = format!("{}/tests/fixtures/private-node", env!("CARGO_MANIFEST_DIR"));
    let node = Node::new("");
    let file = node.folder().join("trace");
    let agent = node.isolated(&[private_node]).launched(&traced(&file, CALLS)).start();
    let token = agent.token(&["admin"]);
    let names: Vec<_> = (0..20).map(|number| format!("node-{number:02}")).collect();
    let mut connection = Connection::open(agent.address());
    for (number, name) in (0..).zip(&names) {
        let body = json!({ "hostname": name }).to_string();
        let change = Request::new("PUT", "/node/hostname").json(&body).bearer(&token);
        assert_eq!(connection.call(&change.header("User-Agent", marker(number))).status, 200);
    }
    let _node = agent.stop(Signal::SIGTERM);
    let Trace(calls) = Trace::read(&file);
    // One after the other, so that what lies between two of these belongs to one change.
    for name in names {
        let act = calls.iter().position(|call| call.name == "sethostname" && call.arguments.contains(&name)).unwrap();
        let asked = calls[..act].iter().rposition(|call| call.arguments.contains("PUT /")).unwrap();
        let is_answer = |call: &SystemCall| call.target.starts_with("TCP") && call.arguments.contains("HTTP/1.1 200");
        let answer = act + calls[act..].iter().position(is_answer).unwrap();
        assert_synced(&calls[asked..act], calls[act].entered, &format!("the intent of {name}"));
        assert_synced(&calls[act..answer], calls[answer].entered, &format!("the outcome of {name}"));
    }
}

/// Some of these calls write a marked row to the WAL, and a sync after that has returned before `line`.
#[track_caller]
fn assert_synced(calls: &[SystemCall], line: usize, what: &str) {
    let write = calls.iter().find(|call| call.is("pwrite64", WAL) && markers(call).next().is_some());
    let write = write.unwrap_or_else(|| panic!("{what} is not written"));
    let sync = calls.iter().find(|call| call.is("fdatasync", WAL) && call.entered > write.left);
    assert!(sync.is_some_and(|sync| sync.left < line), "{what} is not synced");
}

/// Calls of an agent with this window, and its trace after SIGTERM; the entries are awaited before that, where it is said.
fn relaxed(window_ms: u32, is_awaited: bool) -> Option<(Vec<String>, Trace)> {
    if !can_isolate(&[STRACE]) {
        return None;
    }
    let node = Node::new(&format!("[audit.denied]\nwindow_ms = {window_ms}\n"));
    let file = node.folder().join("trace");
    let agent = node.launched(&traced(&file, CALLS)).start();
    let made: Vec<_> = (0..30).map(marker).collect();
    let mut connection = Connection::open(agent.address());
    for marker in &made {
        assert_eq!(connection.call(&Request::get("/health").header("User-Agent", marker)).status, 200);
    }
    if is_awaited {
        // Nobody calls any more: only the timer can have them stored.
        eventually("the last entry in the WAL", || {
            let Trace(calls) = Trace::read(&file);
            let last = made.last().unwrap();
            let is_stored = |call: &SystemCall| call.is("pwrite64", WAL) && call.arguments.contains(last);
            calls.iter().any(is_stored).then_some(())
        });
    }
    let _node = agent.stop(Signal::SIGTERM);
    Some((made, Trace::read(&file)))
}

/// From the arrival of each call to the return of the sync of its entry.
fn delays_us(made: &[String], Trace(calls): &Trace) -> Vec<u64> {
    let delay = |marker: &String| {
        let arrival = calls.iter().find(|call| call.target.starts_with("TCP") && call.arguments.contains(marker));
        let write = calls.iter().find(|call| call.is("pwrite64", WAL) && call.arguments.contains(marker));
        let write = write.unwrap_or_else(|| panic!("{marker} is not stored"));
        let sync = calls.iter().find(|call| call.is("fdatasync", WAL) && call.entered > write.left);
        sync.unwrap_or_else(|| panic!("{marker} is not synced")).left_us - arrival.unwrap().entered_us
    };
    made.iter().map(delay).collect()
}

#[test]
fn a_relaxed_entry_is_synced_within_its_window_also_when_traffic_stops() {
    let Some((made, trace)) = relaxed(500, true) else { return };
    let delays = delays_us(&made, &trace);
    // The window, and a flush by an agent that strace slows down.
    assert!(delays.iter().all(|&delay| delay < 1_500_000), "{delays:?}");
    // The control: they did not come by at once, so it was the window that ended.
    assert!(delays.iter().any(|&delay| delay > 250_000), "{delays:?}");
}

#[test]
fn a_stopped_agent_syncs_what_its_window_still_held() {
    let Some((made, trace)) = relaxed(60_000, false) else { return };
    let delays = delays_us(&made, &trace);
    assert!(delays.iter().all(|&delay| delay < 30_000_000), "{delays:?}");
}
