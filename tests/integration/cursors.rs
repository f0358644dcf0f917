//! Readers who go through the log while others write it: each entry is read exactly once, or told to be lost.
//!
//! Long form: `ROUNDS=1000 cargo test --release --test integration cursors`.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Agent, Connection, Node, Request, Response, assert_is_error, rounds};

const CLASSES: [&str; 3] = ["change", "read", "denied"];

/// A reader, and the entries that he has read.
struct Walker<'a> {
    agent: &'a Agent,
    token: String,
    seqs: Vec<u64>,
    /// Entries of each class: read, and told to be lost.
    accounted: BTreeMap<&'static str, u64>,
}

impl<'a> Walker<'a> {
    fn new(agent: &'a Agent) -> Self {
        Self {
            agent,
            token: agent.token(&["auditor"]),
            seqs: Vec::new(),
            accounted: CLASSES.map(|class| (class, 0)).into(),
        }
    }

    fn page(&mut self, query: &str) -> Response {
        let page = self.agent.call(&Request::get(&format!("/audit{query}")).bearer(&self.token));
        assert_eq!(page.status, 200, "{query}: {}", page.text());
        let body = page.json();
        for entry in body["items"].as_array().unwrap() {
            self.seqs.push(entry["seq"].as_u64().unwrap());
            *self.accounted.get_mut(entry["class"].as_str().unwrap()).unwrap() += 1;
        }
        if let Some(gap) = body.get("gap") {
            for class in CLASSES {
                *self.accounted.get_mut(class).unwrap() += gap["classes"][class].as_u64().unwrap();
            }
        }
        page
    }

    /// Follows the links of that name to the end.
    fn follow(&mut self, relation: &str, from: &Response) {
        let mut next = link(from, relation);
        while let Some(query) = next {
            next = link(&self.page(&query), relation);
        }
    }

    /// Follows a cursor until `is_enough`, and gives the query of what comes next.
    fn read_on(&mut self, from: &str, is_enough: impl Fn(&Value) -> bool) -> String {
        let mut query = from.to_owned();
        loop {
            let page = self.page(&query);
            query = link(&page, "next").unwrap();
            if is_enough(&page.json()) {
                return query;
            }
        }
    }
}

/// Whether a page ends with the newest entry.
fn is_newest(page: &Value) -> bool {
    page["cursor"]["more"] == false
}

/// The query of the page that a response calls so.
fn link(page: &Response, relation: &str) -> Option<String> {
    let wanted = format!(">; rel=\"{relation}\"");
    let links = page.header("Link")?.split(", ").map(str::to_owned).collect::<Vec<_>>();
    links.into_iter().find_map(|link| link.strip_suffix(&wanted)?.strip_prefix('<').map(str::to_owned))
}

/// Entries of each class that the ring has ever had.
fn ever(agent: &Agent) -> BTreeMap<&'static str, u64> {
    let status = agent.read("/audit/status");
    let count = |class: &Value| class["entries"].as_u64().unwrap() + class["evicted"].as_u64().unwrap();
    CLASSES.into_iter().zip(status["classes"].as_array().unwrap().iter().map(count)).collect()
}

/// Makes calls of all classes over many connections for as long as `work` takes.
fn while_called<T>(agent: &Agent, writers: usize, work: impl FnOnce() -> T) -> T {
    let admin = agent.token(&["admin"]);
    let mix = [
        Request::get("/node/load").bearer(&admin),
        Request::get("/health"),
        Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#).bearer(&admin),
        Request::get("/node/load"),
    ];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..writers {
            let (mix, is_over) = (&mix, &is_over);
            scope.spawn(move || {
                let mut connection = Connection::open(agent.address());
                for call in writer.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    connection.call(&mix[call % mix.len()]);
                }
            });
        }
        let done = catch_unwind(AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[test]
fn whoever_follows_the_links_reads_each_entry_once_while_64_others_call() {
    let agent = Node::new("audit.denied_entries = 4096\n").start();
    let mut walker = Walker::new(&agent);
    let first = while_called(&agent, 64, || {
        while agent.read("/audit/status")["entries"].as_u64() < Some(u64::from(rounds(3)) * 1_000) {}
        let first = walker.page("?limit=100&offset=0");
        walker.follow("next", &first);
        first
    });
    let as_of: u64 = first.header("Audit-As-Of").unwrap().parse().unwrap();
    let all: Vec<u64> = (1..=as_of).rev().collect();
    assert_eq!(walker.seqs, all, "no hole, none twice, newest first");
    assert_eq!(first.json()["total_items"], as_of);
}

#[test]
fn whoever_goes_back_and_forth_sees_the_same_pages() {
    let agent = Agent::start();
    (0..50).for_each(|_| drop(agent.call(&Request::get("/health"))));
    let mut walker = Walker::new(&agent);
    let first = walker.page("?limit=20");
    let second = walker.page(&link(&first, "next").unwrap());
    let third = walker.page(&link(&second, "next").unwrap());
    assert_eq!(third.json()["items"].as_array().unwrap().len(), 10);
    assert_eq!(link(&third, "next"), None);
    assert_eq!(walker.page(&link(&third, "prev").unwrap()).json()["items"], second.json()["items"]);
    let again = walker.page(&link(&second, "prev").unwrap());
    assert_eq!(again.json()["items"], first.json()["items"]);
    assert_eq!(walker.page(&link(&again, "next").unwrap()).json()["items"], second.json()["items"]);
    assert_eq!(link(&walker.page("?limit=100"), "next"), None, "nothing is older");
    let begin = walker.page(&link(&third, "first").unwrap());
    assert_eq!((&begin.json()["items"], link(&begin, "prev")), (&first.json()["items"], None));
    // By offset the contract holds: there the pages move.
    assert_ne!(walker.page("?limit=20").json()["items"], first.json()["items"]);
}

#[test]
fn whoever_follows_a_cursor_reads_each_entry_once_or_is_told_of_it_while_the_ring_overflows() {
    let agent = Node::new("audit.max_entries = 1000\naudit.denied_entries = 4096\n").start();
    let (mut walker, mut idler) = (Walker::new(&agent), Walker::new(&agent));
    let begun = idler.page("?after=0&limit=7");
    let last = u64::from(rounds(3)) * 1_000;
    let is_enough = |page: &Value| page["cursor"]["after"].as_u64() > Some(last);
    let next = while_called(&agent, 64, || walker.read_on("?after=0&limit=100", is_enough));
    walker.read_on(&next, is_newest);
    // The last page leaves an entry itself.
    let mut expected = ever(&agent);
    *expected.get_mut("read").unwrap() -= 1;
    assert_eq!(walker.accounted, expected);
    assert!(walker.seqs.is_sorted_by(|a, b| a < b), "none twice, oldest first");

    // One who was away all the time is told exactly what he has missed, once.
    idler.read_on(&link(&begun, "next").unwrap(), is_newest);
    let mut expected = ever(&agent);
    *expected.get_mut("read").unwrap() -= 1;
    assert_eq!(idler.accounted, expected);
}

#[test]
fn what_is_evicted_below_a_reader_who_goes_to_the_oldest_is_told() {
    let agent = Node::new("audit.max_entries = 1000\naudit.denied_entries = 4096\n").start();
    let mut connection = Connection::open(agent.address());
    (0..990).for_each(|_| drop(connection.call(&Request::get("/health"))));
    let mut walker = Walker::new(&agent);
    let first = walker.page("?limit=100");
    (0..200).for_each(|_| drop(connection.call(&Request::get("/health"))));
    walker.follow("next", &first);
    let held = first.json()["total_items"].as_u64().unwrap();
    assert!((walker.seqs.len() as u64) < held, "some were evicted");
    assert_eq!(walker.accounted.values().sum::<u64>(), held, "{:?}", walker.accounted);
}

#[test]
fn a_bare_seq_is_told_what_was_lost_after_it() {
    let agent = Node::new("audit.max_entries = 1000\naudit.denied_entries = 4096\n").start();
    let mut connection = Connection::open(agent.address());
    (0..2_000).for_each(|_| drop(connection.call(&Request::get("/health"))));
    let mut walker = Walker::new(&agent);
    let page = walker.page("?after=100&limit=1").json();
    let first = page["items"][0]["seq"].as_u64().unwrap();
    let gap = json!({
        "reason": "evicted", "from": 101, "to": first - 1, "count": first - 101,
        "classes": {"change": 0, "read": 0, "denied": first - 101},
    });
    assert_eq!(page["gap"], gap);
    let page = walker.page(&format!("?after={}&limit=1", first - 1)).json();
    assert_eq!(page.get("gap"), None, "the next one is there: {page}");
}

#[test]
fn another_ring_is_told_and_so_is_a_place_that_is_in_none() {
    let agent = Agent::start();
    (0..5).for_each(|_| drop(agent.call(&Request::get("/health"))));
    let mut walker = Walker::new(&agent);
    let page = walker.page("?after=0").json();
    let (epoch, after) = (page["cursor"]["epoch"].as_str().unwrap(), page["cursor"]["after"].as_u64().unwrap());
    assert_eq!(agent.read("/audit/status")["epoch"], epoch);

    let other = "00000000-0000-4000-8000-000000000000";
    let page = agent.call(&Request::get(&format!("/audit?after={after}&epoch={other}")).bearer(&walker.token));
    let body = page.json();
    assert_eq!((&body["gap"]["reason"], &body["cursor"]["epoch"]), (&json!("new_ring"), &json!(epoch)));
    assert_eq!(body["items"][0]["seq"], 1, "from its beginning");

    let get = |query: &str| agent.call(&Request::get(&format!("/audit{query}")).bearer(&walker.token));
    let page = get("?after=1000000&limit=1").json();
    assert_eq!((&page["gap"]["reason"], &page["items"][0]["seq"]), (&json!("new_ring"), &json!(1)));
    for wrong in ["?epoch=x&after=1", "?known=1.2&after=1", "?known=1.2.3.4&after=1", "?after=-1", "?known=+1.2.3"] {
        assert_is_error(&get(wrong), 400);
    }
    for placeless in
        [format!("?epoch={other}"), "?known=1.2.3&limit=5".to_owned(), format!("?format=sse&epoch={other}")]
    {
        assert!(assert_is_error(&get(&placeless), 400).contains("epoch and known"), "{placeless}");
    }
    let seqs = |query: &str| -> Vec<u64> {
        let page = get(query).json();
        page["items"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs("?after=1&before=4"), [2, 3]);
    assert_eq!(seqs("?after=1&offset=1&limit=2"), [3, 4]);
    assert_eq!(seqs("?before=4&offset=1"), [2, 1]);
}

#[test]
fn a_bare_seq_of_the_ring_before_is_told_that_there_is_another_one() {
    let agent = Agent::start();
    (0..5).for_each(|_| drop(agent.call(&Request::get("/health"))));
    let after = agent.read("/audit?after=0")["cursor"]["after"].as_u64().unwrap();
    let (node, _) = agent.stop(Signal::SIGTERM);
    fs::remove_file(node.state_dir().join(nodeaudit::audit::ring::FILE_NAME)).unwrap();
    let agent = node.start();
    agent.call(&Request::get("/health"));
    let page = agent.read(&format!("/audit?after={after}"));
    let first = page["items"][0]["seq"].as_u64().unwrap();
    let told = ["reason", "from", "to"].map(|name| &page["gap"][name]);
    assert_eq!(told, [json!("new_ring"), json!(after + 1), json!(first - 1)].each_ref(), "seqs go on: {page}");
}

#[test]
fn a_range_keeps_its_ends_however_it_is_read() {
    let agent = Agent::start();
    (0..9).for_each(|_| drop(agent.call(&Request::get("/health"))));
    let mut walker = Walker::new(&agent);
    let next = walker.read_on("?after=2&before=7&limit=3", is_newest);
    assert_eq!(walker.seqs, [3, 4, 5, 6]);
    let page = walker.page(&next).json();
    assert_eq!((&page["items"], &page["cursor"]["after"]), (&json!([]), &json!(6)), "{page}");
    // Where nothing matches, a cursor moves on to what was looked at, and does not go back.
    let page = walker.page("?after=2&before=7&response_code=599").json();
    assert_eq!((&page["items"], &page["cursor"]["after"]), (&json!([]), &json!(6)), "{page}");
    let page = walker.page("?after=2&response_code=599").json();
    assert!(page["cursor"]["after"].as_u64() > Some(9), "{page}");
    let page = walker.page("?as_of=8&before=5&response_code=599").json();
    assert_eq!((&page["items"], &page["cursor"]["before"]), (&json!([]), &json!(5)), "{page}");
}

#[test]
fn so_many_entries_are_skipped_as_are_asked_for_also_where_that_takes_many_steps() {
    let agent = Node::new("audit.denied_entries = 4096\n").start();
    let mut connection = agent.connect();
    (0..1_300).for_each(|_| drop(connection.call(&Request::get("/health"))));
    let mut walker = Walker::new(&agent);
    for offset in [511, 512, 513, 1_024, 1_025] {
        walker.page(&format!("?after=0&offset={offset}&limit=2"));
        assert_eq!(std::mem::take(&mut walker.seqs), [offset + 1, offset + 2]);
        walker.page(&format!("?before=1301&offset={offset}&limit=2"));
        assert_eq!(std::mem::take(&mut walker.seqs), [1_300 - offset, 1_299 - offset]);
    }
}

#[test]
fn a_ring_without_entries_has_a_place_to_go_on_from() {
    let agent = Agent::start();
    let mut walker = Walker::new(&agent);
    let page = walker.page("");
    assert_eq!((page.header("Audit-As-Of"), link(&page, "next")), (Some("0"), None));
    assert_eq!(walker.page(&link(&page, "first").unwrap()).json()["items"], json!([]));
    let epoch = page.header("Audit-Epoch").unwrap();
    let on = walker.page(&format!("?after=0&epoch={epoch}")).json();
    assert_eq!((&on["items"][0]["id"], on.get("gap")), (&json!(page.audit_id()), None), "{on}");
    // Behind the last entry, too, there is a way back.
    assert!(link(&walker.page("?offset=1000"), "first").is_some());
}
