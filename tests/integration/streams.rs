//! The log as it grows: each entry told once, as soon as it is stored, for as long as the reader may have it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Agent, Connection, Dice, Events, Killed, Node, Request, assert_is_error, eventually, now_s, skipped,
};

/// Entries are stored soon, so that the tests are short: nothing depends on how soon.
const SOON: &str = "[audit]\nread.window_ms = 20\ndenied.window_ms = 20\n";

fn stream(query: &str, token: &str) -> Request {
    Request::get(&format!("/audit{query}")).header("Accept", "text/event-stream").bearer(token)
}

fn open(agent: &Agent, query: &str) -> Events {
    Events::open(agent, &stream(query, &agent.token(&["auditor"]))).unwrap()
}

fn seq(entry: &Value) -> u64 {
    entry["seq"].as_u64().unwrap()
}

#[test]
fn entries_are_told_as_they_are_stored_and_as_the_log_has_them() {
    let agent = Node::new(SOON).start();
    agent.call(&Request::get("/health"));
    let mut all = open(&agent, "");
    let mut some = open(&agent, "?format=sse&response_code=401&path=/node/*");
    assert_eq!(all.head.header("Content-Type"), Some("text/event-stream"));
    let own = all.entry();
    assert_eq!(own["id"], all.head.audit_id(), "its own call is the first one behind those that were there: {own}");
    assert_eq!((&own["outcome"], &own["response_code"]), (&json!("completed"), &json!(200)), "stored at its start");
    assert_eq!(all.entry()["id"], some.head.audit_id());

    let first = agent.call(&Request::get("/health"));
    let second = agent.call(&Request::get("/node/hostname"));
    assert_eq!(all.entry()["id"], first.audit_id(), "a stream that is read wakes no stream");
    let entry = all.entry();
    assert_eq!(entry["id"], second.audit_id());
    assert_eq!(some.entry(), entry, "what does not match is left out");
    assert_eq!(entry, agent.entry_of(&second), "as everywhere else");
}

#[test]
fn a_stream_begins_where_it_is_told_to() {
    let agent = Node::new(SOON).start();
    let calls: Vec<_> = (0..100).map(|_| agent.call(&Request::get("/health"))).collect();
    for query in ["?after=0", "?since=-1h"] {
        let mut events = open(&agent, query);
        for call in &calls {
            assert_eq!(events.entry()["id"], call.audit_id());
        }
    }
    let third = seq(&agent.entry_of(&calls[2]));
    assert_eq!(open(&agent, &format!("?after={third}")).entry()["id"], calls[3].audit_id());
}

#[test]
fn a_reader_who_breaks_off_again_and_again_has_each_entry_once() {
    let agent = Node::new(SOON).start();
    let is_over = AtomicBool::new(false);
    for filter in ["", "&path=/node/hostname"] {
        is_over.store(false, Ordering::Relaxed);
        let mut dice = Dice::seeded(7);
        let (mut seqs, mut id) = (Vec::new(), String::new());
        let token = agent.token(&["auditor"]);
        let before = agent.read("/audit/status")["last_seq"].as_u64().unwrap_or(0);
        thread::scope(|scope| {
            for caller in 0..4 {
                let (agent, is_over) = (&agent, &is_over);
                scope.spawn(move || {
                    let mut connection = Connection::open(agent.address());
                    let reader = agent.token(&["read"]);
                    for number in 0.. {
                        let request = Request::get(["/node/hostname", "/health"][(caller + number) % 2]);
                        connection.call(&request.bearer(&reader));
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            while seqs.len() < 1_500 {
                let request = stream(&format!("?after={before}{filter}"), &token).header("Last-Event-ID", &id);
                let mut events = Events::open(&agent, &request).unwrap();
                // Now and then in the middle of what came at once.
                for _ in 0..=dice.below(150) {
                    seqs.push(seq(&events.entry()));
                }
                id.clone_from(&events.id);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let last = *seqs.last().unwrap();
        let filter = filter.trim_start_matches('&');
        let held = agent.read(&format!("/audit/export?{filter}"));
        let held = held["items"].as_array().unwrap().iter().map(seq);
        let expected: Vec<_> = held.filter(|seq| (before + 1..=last).contains(seq)).collect();
        assert_eq!(seqs, expected);
    }
}

#[test]
fn what_the_ring_gave_up_meanwhile_is_told_with_its_number() {
    let agent = Node::new(&format!("{SOON}max_entries = 200\n")).start();
    let mut accounted = BTreeMap::from([("read", 0), ("denied", 0)]);
    let mut events = open(&agent, "?after=0");
    let call = |number: u64| {
        let request = Request::get("/node/hostname");
        agent.call(&if number.is_multiple_of(3) { request } else { request.bearer(&agent.token(&["read"])) });
    };
    (0..30).for_each(call);
    for _ in 0..10 {
        let entry = events.entry();
        *accounted.get_mut(entry["class"].as_str().unwrap()).unwrap() += 1;
    }
    let id = events.id.clone();
    drop(events);
    (0..900).for_each(call);
    agent.entry_of(&agent.call(&Request::get("/health")));
    let request = stream("", &agent.token(&["auditor"])).header("Last-Event-ID", &id);
    let mut events = Events::open(&agent, &request).unwrap();
    let gap = events.next().unwrap();
    assert_eq!(gap.kind, "gap");
    assert_eq!(gap.data["reason"], "evicted");
    let mut gaps = vec![gap];
    let own = events.head.audit_id().to_owned();
    loop {
        let event = events.next().unwrap();
        if event.kind == "gap" {
            gaps.push(event);
            continue;
        }
        *accounted.get_mut(event.data["class"].as_str().unwrap()).unwrap() += 1;
        if event.data["id"] == own {
            break;
        }
    }
    for (class, count) in &mut accounted {
        *count += gaps.iter().map(|gap| gap.data["classes"][class].as_u64().unwrap()).sum::<u64>();
    }
    let status = agent.read("/audit/status");
    for class in status["classes"].as_array().unwrap() {
        let Some(accounted) = accounted.get(class["class"].as_str().unwrap()) else { continue };
        let stored = class["entries"].as_u64().unwrap() + class["evicted"].as_u64().unwrap();
        // Of the reads, the status call itself has no entry yet.
        assert_eq!(*accounted, stored, "{class} {gaps:?}");
    }
    // Whoever comes back right behind the gap is not told of it again.
    let request = stream("", &agent.token(&["auditor"])).header("Last-Event-ID", &gaps[0].id);
    let event = Events::open(&agent, &request).unwrap().next().unwrap();
    let is_new = event.kind == "entry" || event.data["count"].as_u64().unwrap() < 300;
    assert!(is_new && gaps[0].data["count"].as_u64().unwrap() > 500, "{event:?} {gaps:?}");

    let other = format!("00000000-0000-0000-0000-000000000001/{}", u32::MAX);
    let mut events =
        Events::open(&agent, &stream("", &agent.token(&["auditor"])).header("Last-Event-ID", &other)).unwrap();
    let gap = events.next().unwrap();
    assert_eq!((gap.kind.as_str(), &gap.data["reason"]), ("gap", &json!("new_ring")));
    let request = stream("", &agent.token(&["auditor"])).header("Last-Event-ID", &gap.id);
    let event = Events::open(&agent, &request).unwrap().next().unwrap();
    assert_ne!(event.data["reason"], "new_ring", "nor is who comes back behind that one: {event:?}");
    // A full ring may give up its oldest entries just now.
    let mut next = events.next().unwrap();
    while next.kind == "gap" && next.data["reason"] == "evicted" {
        next = events.next().unwrap();
    }
    assert_eq!(next.kind, "entry", "the new one from its beginning");
}

#[test]
fn who_breaks_off_a_filtered_stream_is_told_of_no_more_than_went_since() {
    let agent = Node::new(&format!("{SOON}max_entries = 200\ndenied_entries = 4096\n")).start();
    let mut connection = agent.connect();
    for path in ["/health", "/node/hostname"].into_iter().cycle().take(60) {
        connection.call(&Request::get(path));
    }
    // In the middle of what comes at once.
    let mut events = open(&agent, "?after=0&path=/health");
    let after = (0..10).map(|_| seq(&events.entry())).max().unwrap();
    let id = events.id.clone();
    drop(events);
    (0..900).for_each(|_| drop(connection.call(&Request::get("/health"))));
    agent.entry_of(&agent.call(&Request::get("/health")));
    let request = stream("?path=/health", &agent.token(&["auditor"])).header("Last-Event-ID", &id);
    let gap = Events::open(&agent, &request).unwrap().next().unwrap().data;
    let [from, to, count] = ["from", "to", "count"].map(|name| gap[name].as_u64().unwrap());
    assert_eq!(from, after + 1, "{gap}");
    assert!(count <= to - after, "{gap}");
}

#[test]
fn what_the_ring_gives_up_while_its_reader_is_slow_is_told_with_its_number() {
    let agent = Node::new(&format!("server.write_timeout_ms = 120000\n{SOON}max_entries = 1600\n")).start();
    // More of them than the kernel holds back for someone who does not read.
    let long = Request::get(&format!("/node/{}", "x".repeat(1_000))).header("User-Agent", "x".repeat(250));
    let long = long.bearer(&agent.token(&["read"]));
    let mut connection = agent.connect();
    (0..1_500).for_each(|_| drop(connection.call(&long)));
    let mut events = open(&agent, "?after=0");
    assert_eq!(seq(&events.entry()), 1, "nothing is missing at the beginning");
    (0..1_500).for_each(|_| drop(connection.call(&long)));
    let last = agent.entry_of(&connection.call(&long));
    let (mut told, mut missing, mut gaps) = (1, 0, Vec::new());
    loop {
        let event = events.next().unwrap();
        if event.kind == "gap" {
            missing += event.data["count"].as_u64().unwrap();
            gaps.push(event);
            continue;
        }
        told += 1;
        if event.data["id"] == last["id"] {
            break;
        }
    }
    assert!(missing > 0, "the stream did not fit what the kernel holds back");
    assert_eq!(told + missing, seq(&last), "each one, or told to be lost");
    let request = stream("", &agent.token(&["auditor"])).header("Last-Event-ID", &gaps[0].id);
    let event = Events::open(&agent, &request).unwrap().next().unwrap();
    let is_new = event.kind == "entry" || event.data["count"].as_u64() < gaps[0].data["count"].as_u64();
    assert!(is_new, "whoever comes back right behind the gap is not told of it again: {event:?} {gaps:?}");
}

#[test]
fn a_stream_ends_when_its_token_does() {
    let agent = Node::new(&format!("auth.leeway_s = 0\n{SOON}")).start();
    let token = agent.sign(&json!({"sub": "short@example.com", "roles": ["auditor"], "exp": now_s() + 2}));
    let end = Events::open(&agent, &stream("", &token)).unwrap().end();
    assert_eq!(end["reason"], "refused");
    assert!(end["details"].as_str().unwrap().contains("expired"), "{end}");
    assert_eq!(Events::open(&agent, &stream("", &token)).err().unwrap().status, 401);
}

/// An agent with a list of revoked tokens, and a token that is not on it yet as `lost-laptop`.
fn revocable() -> (Agent, PathBuf, String) {
    let node = Node::new("");
    let list = node.folder().join("revoked");
    fs::write(&list, "").unwrap();
    let settings = format!("auth.revoked_tokens = \"{}\"\n{SOON}", list.display());
    fs::write(node.folder().join("nodeaudit.toml"), settings).unwrap();
    let agent = node.start();
    let claims = json!({"sub": "x", "roles": ["auditor"], "exp": now_s() + 600, "jti": "lost-laptop"});
    let token = agent.sign(&claims);
    (agent, list, token)
}

#[test]
fn a_reload_that_revokes_the_token_breaks_off_its_export() {
    let (agent, list, called_back) = revocable();
    let kept = agent.token(&["auditor"]);
    let long = Request::get(&format!("/{}", "p".repeat(900))).bearer(&kept);
    let mut connection = Connection::open(agent.address());
    // More than sockets hold for a reader who does not read.
    (0..10_000).for_each(|_| assert_eq!(connection.call(&long).status, 404));
    let mut export = TcpStream::connect(agent.address()).unwrap();
    export.write_all(&Request::get("/audit/export").bearer(&called_back).whole()).unwrap();
    let mut status = [0; 12];
    export.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    fs::write(&list, "lost-laptop\n").unwrap();
    agent.reload(&kept, (1, 0));
    let mut rest = Vec::new();
    let _ = export.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the export does not say that it is whole");
}

#[test]
fn a_reload_that_revokes_the_token_ends_its_stream_and_no_other() {
    let (agent, list, called_back) = revocable();
    let kept = agent.token(&["auditor"]);
    let ends = Events::open(&agent, &stream("", &called_back)).unwrap();
    let mut goes_on = Events::open(&agent, &stream("?response_code=401", &kept)).unwrap();
    fs::write(&list, "lost-laptop\n").unwrap();
    agent.reload(&kept, (1, 0));
    assert_eq!(ends.end()["reason"], "refused");
    let refused = agent.call(&Request::get("/audit"));
    assert_eq!(goes_on.entry()["id"], refused.audit_id());
}

#[test]
fn streams_end_when_the_agent_stops() {
    // Whoever were not told would be cut off after the time that calls get to end.
    let agent = Node::new(&format!("server.shutdown_timeout_s = 300\n{SOON}")).start();
    let streams: Vec<_> = (0..3).map(|_| open(&agent, "")).collect();
    agent.stop(Signal::SIGTERM);
    for stream in streams {
        assert_eq!(stream.end(), json!({"reason": "stopping"}));
    }
}

#[test]
fn a_stream_lives_as_long_as_it_may() {
    let agent = Node::new(&format!("server.stream_max_s = 1\n{SOON}")).start();
    let end = open(&agent, "").end();
    assert_eq!(end, json!({"reason": "time"}));
}

#[test]
fn so_many_streams_are_open_and_no_more() {
    let agent = Node::new(&format!("server.max_streams = 2\n{SOON}")).start();
    let (first, mut second) = (open(&agent, ""), open(&agent, "?response_code=503"));
    let token = agent.token(&["auditor"]);
    let refused = Events::open(&agent, &stream("", &token)).err().unwrap();
    assert!(assert_is_error(&refused, 503).contains("server.max_streams"));
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(second.entry()["id"], refused.audit_id(), "it is recorded");
    let status = agent.read("/audit/status");
    assert_eq!(status["open_calls"], json!({ "streams": 2, "max_streams": 2, "waiting_polls": 0 }));
    let metrics = agent.call(&Request::get("/metrics").bearer(&agent.token(&["read"])));
    assert!(metrics.text().contains("\nnodeaudit_open_streams 2\n"), "{}", metrics.text());
    drop(first);
    eventually("a place that is free again", || Events::open(&agent, &stream("", &token)).ok());
}

#[test]
fn what_is_no_stream_is_refused() {
    let agent = Agent::start();
    let token = agent.token(&["auditor"]);
    for (query, named) in
        [("?limit=5", "limit"), ("?after=x", "after"), ("?wait=1s", "wait"), ("?format=tsv", "format")]
    {
        let refused = Events::open(&agent, &stream(query, &token)).err().unwrap();
        assert!(assert_is_error(&refused, 400).contains(named), "{query}");
    }
    let refused = Events::open(&agent, &stream("", &token).header("Last-Event-ID", "5")).err().unwrap();
    assert!(assert_is_error(&refused, 400).contains("Last-Event-ID"));
    assert_eq!(Events::open(&agent, &stream("", &agent.token(&["read"]))).err().unwrap().status, 403);
}

/// What others read streams with.
#[test]
fn curl_and_python_read_a_stream() {
    let agent = Node::new(SOON).start();
    let url = format!("http://{}/audit?format=sse&path=/health", agent.address());
    let authorization = format!("Authorization: Bearer {}", agent.token(&["auditor"]));
    let script = "import sys, urllib.request\n\
                  name, value = sys.argv[2].split(': ')\n\
                  for line in urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={name: value})):\n\
                  \x20   sys.stdout.write(line.decode()); sys.stdout.flush()\n";
    let readers: [(&str, &[&str]); 2] = [
        ("/usr/bin/curl", &["-sN", &url, "-H", &authorization]),
        ("/usr/bin/python3", &["-c", script, &url, &authorization]),
    ];
    for (program, arguments) in readers {
        if fs::metadata(program).is_err() {
            skipped(&format!("{program} is not here"));
            continue;
        }
        let mut process = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = process.stdout.take().unwrap();
        let _process = Killed::new(process);
        let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("retry: 2000"));
        let call = agent.call(&Request::get("/health"));
        let data = lines.find_map(|line| Some(line.strip_prefix("data: ")?.to_owned())).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&data).unwrap()["id"], call.audit_id(), "{program}");
    }
}
