//! Behind the proxies that stand before agents: what they pass on is recorded and nothing else, and they alone say who called.

mod corpus;
mod front;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Agent, Connection, Node, Request, eventually};
use front::{Front, Kind, PROXY};

/// So many clients at once: most of the corpus is waiting for someone to give up.
const CLIENTS: usize = 16;

fn agent(more: &str) -> Agent {
    // The proxies let go of idle connections first, and each refused call has an entry of its own.
    let config =
        format!("audit.denied_entries = 4096\nserver.keep_alive_s = 60\nproxy.trusted = [\"{PROXY}\"]\n{more}");
    Node::new(&config).start()
}

const NO_LIMITS: &str = "limits.peer_per_s = 0\nlimits.failures_per_min = 0\n";

/// All that came through the proxy.
fn entries(agent: &Agent, token: &str) -> Vec<Value> {
    let export = agent.call(&Request::get("/audit/export?format=ndjson").bearer(token));
    assert_eq!(export.status, 200);
    let entries = export.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["source_ip"] == PROXY).collect()
}

/// Sends the bytes and listens until someone has had enough.
fn send(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The proxy may be fed up before the end.
    let _ = stream.write_all(bytes);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The calls of each kind that only one side has seen: method and path, and how many more are recorded than were passed on.
fn difference(passed: &[(String, String)], entries: &[Value]) -> BTreeMap<(String, String), i64> {
    let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
    for call in passed {
        *counts.entry(call.clone()).or_default() -= 1;
    }
    for entry in entries {
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        *counts.entry((text("method"), text("path"))).or_default() += 1;
    }
    counts.retain(|_, count| *count != 0);
    counts
}

fn assert_entries_are_what_was_passed_on(kind: Kind) {
    let agent = agent(NO_LIMITS);
    let Some(front) = Front::before(&agent, kind) else { return };
    let (corpus, next) = (corpus::all(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some((name, bytes)) = corpus.get(next.fetch_add(1, Ordering::Relaxed)) {
                    send(front.address(), bytes);
                    // Who comes after it gets the answer to his own call, and not one that was smuggled in before it.
                    let marker = format!("/after-{}", name.replace(' ', "-"));
                    let response = Connection::open(front.address()).call(&Request::get(&marker));
                    assert_eq!(response.status, 404, "{kind:?}: after {name}: {}", response.text());
                    let found = agent.entry_of(&response);
                    assert_eq!(found["path"], marker, "{kind:?}: the answer after {name} is another call's");
                }
            });
        }
    });
    let token = agent.token(&["auditor"]);
    // The end of an aborted call is noticed by each side in its own time.
    let mut last = BTreeMap::new();
    eventually(&format!("entries of the calls that {kind:?} passed on, and of no other"), || {
        let difference = difference(&front.passed_on(), &entries(&agent, &token));
        if difference != last {
            eprintln!("{kind:?}: recorded - passed on: {difference:?}");
        }
        last = difference;
        last.is_empty().then_some(())
    });
    let passed = front.passed_on().len();
    assert!(passed > corpus.len(), "{passed} of {}", corpus.len());
}

#[test]
fn what_nginx_passes_on_is_what_is_recorded_however_it_was_smuggled() {
    assert_entries_are_what_was_passed_on(Kind::Nginx);
}

#[test]
fn what_nginx_passes_on_unbuffered_is_what_is_recorded_however_it_was_smuggled() {
    assert_entries_are_what_was_passed_on(Kind::NginxUnbuffered);
}

#[test]
fn what_haproxy_passes_on_is_what_is_recorded_however_it_was_smuggled() {
    assert_entries_are_what_was_passed_on(Kind::HaProxy);
}

/// What a caller says of himself.
type Headers = &'static [(&'static str, &'static str)];

#[test]
fn who_called_is_what_the_proxy_says_and_never_what_the_caller_does() {
    let client = Some("127.0.0.1");
    let cases: [(Headers, Option<&str>); 10] = [
        (&[], client),
        (&[("X-Forwarded-For", "192.0.2.1")], client),
        (&[("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "198.51.100.1, 127.0.0.9")], client),
        (&[("X-Forwarded-For", PROXY)], client),
        (&[("X-Forwarded-For", "\"")], client),
        (&[("X-Forwarded-For", "\u{e9}")], client),
        (&[("X-Real-IP", "192.0.2.1")], client),
        (&[("X-Forwarded-For", "192.0.2.1"), ("Connection", "close, X-Forwarded-For")], client),
        // The proxy passes on what it does not write.
        (&[("Forwarded", "for=192.0.2.1")], client),
        (&[("Forwarded", "for=127.0.0.1;for=192.0.2.1")], client),
    ];
    for kind in [Kind::Nginx, Kind::HaProxy] {
        let agent = agent(NO_LIMITS);
        let Some(front) = Front::before(&agent, kind) else { continue };
        for (headers, expected) in cases {
            let request =
                headers.iter().fold(Request::get("/health"), |request, (name, value)| request.header(name, value));
            let entry = agent.entry_of(&Connection::open(front.address()).call(&request));
            assert_eq!(entry["source_ip"], PROXY, "{kind:?} {headers:?}: {entry}");
            assert_eq!(entry.get("forwarded_for").and_then(Value::as_str), expected, "{kind:?} {headers:?}: {entry}");
            // The same words of somebody who is no proxy.
            let entry = agent.entry_of(&agent.call(&request));
            assert_eq!((&entry["source_ip"], entry.get("forwarded_for")), (&"127.0.0.1".into(), None), "{headers:?}");
        }
    }
}

#[test]
fn who_lies_about_his_address_is_limited_by_the_one_that_the_proxy_has_seen() {
    for kind in [Kind::Nginx, Kind::HaProxy] {
        let agent = agent("limits.failures_per_min = 1\nlimits.failures_burst = 3\n");
        let Some(front) = Front::before(&agent, kind) else { continue };
        let statuses: Vec<u16> = (1..=5)
            .map(|number| {
                let request = Request::get("/node/hostname")
                    .bearer("no-token")
                    .header("X-Forwarded-For", format!("192.0.2.{number}"));
                Connection::open(front.address()).call(&request).status
            })
            .collect();
        assert_eq!(statuses, [401, 401, 401, 429, 429], "{kind:?}");
    }
}
