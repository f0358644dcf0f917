//! Filters, against a plain reading of every entry: what is served is what matches, in order, and counted.
//!
//! Long form: `ROUNDS=2000 cargo test --test integration filters`.

mod plain;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use nodeaudit::api;
use nodeaudit::audit::ring::{Record, Ring, RingOptions};
use nodeaudit::audit::{Arrival, Call, Class, Entry, Filter, Order, Outcome, Reader, Seq, ServedEntry};
use nodeaudit::auth::{Actor, AuthMethod};
use nodeaudit::host::clock;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Agent, Connection, Dice, Request, assert_is_error, rounds};
use plain::{Pair, matches, pairs};

/// More than two steps of a search look at.
const ENTRIES: u64 = 20_000;

/// When the entries of the ring begin, in milliseconds since 1970; one comes each second.
const BEGIN_MS: i64 = 1_752_000_000_000;

/// An entry of few different values, so that conditions meet often.
fn entry(seq: u64, dice: &mut Dice) -> Entry {
    let user = *dice.pick(&["", "ops", "ops@example.com", "Ops"]);
    let path = *dice.pick(&["/node/hostname", "/node/host", "/node", "/audit", "/n\u{e9}/*", "/audit/status"]);
    let address: IpAddr = dice.pick(&["10.0.0.1", "10.1.2.3", "192.168.1.7", "fd00::1", "fd00:1::7"]).parse().unwrap();
    let operation = dice.below(12);
    let call = Call {
        arrival: Arrival {
            timestamp_ms: BEGIN_MS + i64::try_from(seq * 1_000).unwrap(),
            monotonic_us: 1,
            clock_synced: true,
        },
        method: (*dice.pick(&["GET", "PUT", "get"])).to_owned().into(),
        path: path.into(),
        operation: api::endpoints().get(usize::try_from(operation).unwrap()).map(|endpoint| endpoint.operation),
        actor: Arc::new(Actor {
            user: user.to_owned(),
            roles: (*dice.pick(&["", "admin", "admin\nread", "readonly\nadministrator"])).to_owned(),
            auth_method: (!user.is_empty()).then_some(AuthMethod::Bearer),
            ..Actor::default()
        }),
        source_ip: address,
        trace_id: None,
        user_agent: None,
        forwarded_for: None,
    };
    let class = *dice.pick(&[Class::Change, Class::Read, Class::Read, Class::Denied]);
    let response_code = *dice.pick(&[0, 200, 204, 403, 404, 499, 500, 503]);
    let outcome = *dice.pick(&Outcome::ALL);
    Entry { call, class, outcome, response_code, duration_us: dice.below(20_000), calls: 1, span_us: 0 }
}

fn open(folder: &Path, max_entries: u64) -> Ring {
    let options = RingOptions {
        state_dir: folder.to_owned(),
        max_entries,
        max_bytes: 32 << 20,
        guarantee_percent: [40, 30, 20],
        boot_id: Uuid::from_u128(0x00c0_ffee),
        started_ms: BEGIN_MS,
    };
    Ring::open(&options).unwrap()
}

/// A ring of many entries, its reader, and what it holds as it is served, oldest first.
fn ring(folder: &Path) -> (Ring, Reader, Vec<Value>) {
    // Full: the oldest are evicted.
    let mut ring = open(folder, ENTRIES - 1_000);
    let mut dice = Dice::new();
    let records: Vec<_> = (1..=ENTRIES).map(|seq| Record::Entry(Seq(seq), entry(seq, &mut dice), None)).collect();
    records.chunks(1_000).for_each(|batch| ring.store(batch).unwrap());
    let reader = Reader::new(folder, ring.gate());
    let mut all = Vec::new();
    let mut scan = reader.scan(&Filter::default(), Order::OldestFirst).unwrap();
    while !scan.is_done() {
        reader.scan_step(&mut scan, 5_000, |entry| all.push(serde_json::to_value(entry).unwrap())).unwrap();
    }
    assert!(all.len() as u64 > ENTRIES - 2_000, "{}", all.len());
    (ring, reader, all)
}

fn filter(pairs: &[Pair]) -> Filter {
    let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
    Filter::parse(pairs, BEGIN_MS + 20_000_000).unwrap()
}

fn seq(entry: &Value) -> u64 {
    entry["seq"].as_u64().unwrap()
}

#[test]
fn every_way_to_read_gives_what_a_plain_look_at_each_entry_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (_ring, reader, all) = ring(folder.path());
    let config = ProptestConfig { cases: rounds(40), failure_persistence: None, ..ProptestConfig::default() };
    let look = (pairs(), 1_u64..=100, 0_u64..40_u64, 1_u64..600, any::<bool>());
    let tried = TestRunner::new(config).run(&look, |(pairs, limit, tenths, step, from_the_end)| {
        let filter = filter(&pairs);
        let expected: Vec<u64> = all.iter().filter(|entry| matches(entry, &pairs)).map(seq).collect();
        // Up to beyond the end.
        let offset = expected.len() as u64 * tenths / 30;

        let mut page = Vec::new();
        let mut visit = |entry: &ServedEntry<'_>| page.push(entry.seq.0);
        let mut search = reader.search(&filter, limit, offset, &mut visit).unwrap();
        while !search.is_done() {
            reader.search_step(&mut search, &mut visit).unwrap();
        }
        prop_assert_eq!(search.total, expected.len() as u64);
        let (skipped, taken) = (usize::try_from(offset).unwrap(), usize::try_from(limit).unwrap());
        let part: Vec<u64> = expected.iter().rev().skip(skipped).take(taken).copied().collect();
        prop_assert_eq!(page, part, "{} at {} of {:?}", limit, offset, pairs);

        let order = if from_the_end { Order::NewestFirst } else { Order::OldestFirst };
        let (mut walked, mut scan) = (Vec::new(), reader.scan(&filter, order).unwrap());
        while !scan.is_done() {
            let done = reader.scan_step(&mut scan, step, |entry| walked.push(entry.seq.0)).unwrap();
            prop_assert!(done.entries <= step && done.evicted == [0; 3]);
        }
        if from_the_end {
            walked.reverse();
        }
        prop_assert_eq!(walked, expected, "{:?}", pairs);
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_time_is_in_what_begins_with_it_and_not_in_what_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut ring = open(folder.path(), 1_000);
    let mut dice = Dice::new();
    // The second one took 7 ms to the microsecond.
    let record = |seq| Record::Entry(Seq(seq), Entry { duration_us: 6_998 + seq, ..entry(seq, &mut dice) }, None);
    ring.store(&(1..=3).map(record).collect::<Vec<_>>()).unwrap();
    let reader = Reader::new(folder.path(), ring.gate());
    let second = clock::rfc3339(BEGIN_MS + 2_000);
    for (name, value, expected) in
        [("since", second.as_str(), &[3, 2][..]), ("until", &second, &[1]), ("min_duration_ms", "7", &[3, 2])]
    {
        let mut found = Vec::new();
        let search = reader.search(&filter(&[(name, value.to_owned())]), 10, 0, |entry| found.push(entry.seq.0));
        assert_eq!((found.as_slice(), search.unwrap().total), (expected, expected.len() as u64), "{name}");
    }
}

#[test]
fn a_list_is_filtered_and_counted_and_so_is_an_export() {
    let agent = Agent::start();
    let (admin, auditor) = (agent.token(&["admin"]), agent.token(&["auditor"]));
    let mut connection = Connection::open(agent.address());
    for _ in 0..7 {
        connection.call(&Request::get("/node/hostname").bearer(&admin));
        connection.call(&Request::get("/node/hostname"));
        connection.call(&Request::get("/no/such/path").bearer(&admin));
    }
    let mut list = |query: &str| connection.call(&Request::get(&format!("/audit?{query}")).bearer(&auditor)).json();
    let refused = list("response_code=4xx&class=denied&path=/node/*&since=-1h&limit=3");
    assert_eq!(refused["total_items"], 7);
    assert_eq!(refused["items"].as_array().unwrap().len(), 3);
    assert!(refused["items"].as_array().unwrap().iter().all(|entry| entry["response_code"] == 401), "{refused}");
    assert_eq!(list("role=admin&operation_id=GetNodeHostname")["total_items"], 7);
    assert_eq!(list("user=&source_ip=127.0.0.0/8")["total_items"], 7);
    assert_eq!(list("since=2999-01-01T00:00:00%2B01:00")["total_items"], 0);
    let lines = Request::get("/audit/export?format=ndjson&response_code=404").bearer(&auditor);
    assert_eq!(connection.call(&lines).text().lines().count(), 7);
}

#[test]
fn a_bad_or_unknown_filter_is_refused_by_its_name() {
    let agent = Agent::start();
    let token = agent.token(&["auditor"]);
    let bad = ["usr=x", "response_code=4x", "source_ip=10.0.0", "since=yesterday", "class=reads", "outcome=", "role="];
    for query in bad {
        let name = query.split('=').next().unwrap();
        for path in ["/audit", "/audit/export"] {
            let refused = agent.call(&Request::get(&format!("{path}?{query}")).bearer(&token));
            let details = assert_is_error(&refused, 400);
            assert!(details.contains(name), "{path}?{query}: {details}");
        }
    }
    for path in ["/audit", "/audit/export"] {
        let twice = agent.call(&Request::get(&format!("{path}?user=a&user=b")).bearer(&token));
        assert!(assert_is_error(&twice, 400).contains("user"), "twice");
        let names: Vec<_> = (0..10_000).map(|number| format!("{number}")).collect();
        let many = agent.call(&Request::get(&format!("{path}?{}", names.join("&"))).bearer(&token));
        assert!(assert_is_error(&many, 400).contains("32 parameters"), "nobody waits until all are compared");
    }
}
