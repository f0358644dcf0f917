//! Polls that cost next to nothing: nothing new is said in a few bytes, and news are waited for.

use std::io::Read as _;
use std::{fs, thread};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Agent, Node, Request, Response, assert_is_error, eventually};

fn poll(agent: &Agent, query: &str, headers: &[(&str, &str)]) -> Response {
    let request = Request::get(&format!("/audit{query}")).bearer(&agent.token(&["auditor"]));
    agent.call(&headers.iter().fold(request, |request, (name, value)| request.header(name, value)))
}

fn seqs(page: &Value) -> Vec<u64> {
    page["items"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

#[test]
fn reading_the_log_is_no_news_and_all_else_is() {
    let agent = Agent::start();
    agent.call(&Request::get("/health"));
    let first = poll(&agent, "", &[]);
    let mut tag = first.header("ETag").unwrap().to_owned();
    for _ in 0..3 {
        for _ in 0..3 {
            let same = poll(&agent, "", &[("If-None-Match", &tag)]);
            assert_eq!((same.status, same.body.len()), (304, 0));
            assert_eq!(same.header("ETag"), Some(tag.as_str()));
            assert_eq!(same.header("Vary"), first.header("Vary"), "as the answer that it stands for");
            assert!(!same.audit_id().is_empty(), "it is an entry all the same");
        }
        let list = format!("\"x\", {}", tag.trim_start_matches("W/"));
        assert_eq!(poll(&agent, "", &[("If-None-Match", &list)]).status, 304);
        // A refused reading is one that someone should see.
        agent.call(&Request::get("/audit"));
        let news = poll(&agent, "", &[("If-None-Match", &tag)]);
        assert_eq!(news.status, 200);
        let page = news.json();
        assert_eq!(page["items"][0]["response_code"], 401, "{page}");
        assert_eq!(page["items"][1]["response_code"], 304, "what was not told is in the next page: {page}");
        tag = news.header("ETag").unwrap().to_owned();
    }
    assert_eq!(poll(&agent, "", &[("If-None-Match", "W/\"000000-0-1\"")]).status, 200);
    let moving = poll(&agent, "?since=-1h", &[("If-None-Match", "*")]);
    assert_eq!((moving.status, moving.header("ETag")), (200, None), "what is old changes by itself");
    // Another run of the agent knows nothing of it.
    let agent = agent.stop(Signal::SIGTERM).0.start();
    assert_eq!(poll(&agent, "", &[("If-None-Match", &tag)]).status, 200);
}

#[test]
fn a_poll_waits_for_news_and_not_for_other_polls() {
    let agent = Agent::start();
    agent.call(&Request::get("/health"));
    let page = poll(&agent, "?after=0", &[]);
    let after = page.json()["cursor"]["after"].as_u64().unwrap();
    let tag = poll(&agent, "", &[]).header("ETag").unwrap().to_owned();
    thread::scope(|scope| {
        let by_cursor = scope.spawn(|| poll(&agent, &format!("?after={after}&limit=100&wait=20s"), &[]));
        let filtered = scope.spawn(|| poll(&agent, &format!("?after={after}&wait=20s&response_code=401"), &[]));
        let by_tag = scope.spawn(|| poll(&agent, "?wait=20s", &[("If-None-Match", &tag)]));
        // Only reads that are no news, and then news.
        for _ in 0..20 {
            poll(&agent, "?limit=1", &[]);
        }
        let health = agent.call(&Request::get("/health"));
        let refused = agent.call(&Request::get("/audit"));
        let id = |response: &Response| nodeaudit::audit::EntryId::parse(response.audit_id()).unwrap().seq().0;
        let page = by_cursor.join().unwrap().json();
        assert!(seqs(&page).contains(&id(&health)), "{page}");
        assert_eq!(seqs(&filtered.join().unwrap().json()), [id(&refused)]);
        let page = by_tag.join().unwrap();
        assert_eq!(page.status, 200);
        assert!(seqs(&page.json()).contains(&id(&health)), "{}", page.text());
    });
}

/// The longest that one can wait is beyond what a test waits for an answer.
const PATIENT: &str = "server.handler_timeout_s = 300\n";

#[test]
fn what_is_missing_is_told_at_once_and_what_can_not_come_is_not_waited_for() {
    let agent = Node::new(PATIENT).start();
    (0..5).for_each(|_| drop(agent.call(&Request::get("/health"))));
    let newest = poll(&agent, "?after=0", &[]).json()["cursor"]["after"].as_u64().unwrap();
    let other = "00000000-0000-4000-8000-000000000000";
    for query in [
        format!("?after={newest}&epoch={other}&wait=60s"),
        format!("?after={}&epoch={other}&wait=60s", newest + 1_000_000),
        format!("?after={}&wait=60s", newest + 1_000_000),
    ] {
        let page = poll(&agent, &query, &[]).json();
        assert_eq!((&page["gap"]["reason"], &page["items"][0]["seq"]), (&json!("new_ring"), &json!(1)), "{query}");
    }
    let page = poll(&agent, &format!("?after={newest}&before={}&wait=60s", newest + 1), &[]).json();
    assert_eq!((&page["items"], &page["cursor"]["more"]), (&json!([]), &json!(false)), "nothing is between the two");
}

#[test]
fn what_the_ring_gave_up_is_told_to_who_would_wait_behind_readings_of_the_log() {
    let agent = Node::new(&format!("{PATIENT}audit.max_entries = 200\n")).start();
    let newest = poll(&agent, "?after=0", &[]).json()["cursor"]["after"].as_u64().unwrap();
    (0..400).for_each(|_| drop(poll(&agent, "?limit=1", &[])));
    let page = poll(&agent, &format!("?after={newest}&limit=1&wait=60s"), &[]).json();
    assert_eq!(page["gap"]["reason"], "evicted", "{page}");
}

#[test]
fn another_ring_is_news() {
    let agent = Node::new(PATIENT).start();
    agent.call(&Request::get("/health"));
    let first = poll(&agent, "", &[]);
    let (tag, epoch) = (first.header("ETag").unwrap(), first.header("Audit-Epoch").unwrap());
    let after = poll(&agent, "?after=0", &[]).json()["cursor"]["after"].as_u64().unwrap();
    let cursor = format!("?after={after}&epoch={epoch}&wait=60s");
    thread::scope(|scope| {
        let by_cursor = scope.spawn(|| poll(&agent, &cursor, &[]));
        let filtered = scope.spawn(|| poll(&agent, &format!("{cursor}&response_code=599"), &[]));
        let by_tag = scope.spawn(|| poll(&agent, "?wait=60s", &[("If-None-Match", tag)]));
        let waiting = || (agent.read("/audit/status")["open_calls"]["waiting_polls"] == 3).then_some(());
        eventually("three polls that wait", waiting);
        fs::remove_file(agent.node().state_dir().join("ring.sqlite")).unwrap();
        // Only readings of the log come.
        eventually("a ring in its place", || (agent.read("/audit/status")["epoch"] != epoch).then_some(()));
        assert_eq!(by_cursor.join().unwrap().json()["gap"]["reason"], "new_ring");
        assert_eq!(filtered.join().unwrap().json()["gap"]["reason"], "new_ring", "also where nothing matches");
        assert_eq!(by_tag.join().unwrap().status, 200);
        assert_eq!(poll(&agent, "", &[("If-None-Match", tag)]).status, 200, "also for who did not wait");
    });
}

#[test]
fn a_log_that_begins_anew_is_news_although_it_has_come_as_far() {
    let agent = Agent::start();
    let came = agent.call(&Request::get("/health"));
    let tag = poll(&agent, "", &[]).header("ETag").unwrap().to_owned();
    let (node, _) = agent.stop(Signal::SIGTERM);
    fs::remove_dir_all(node.state_dir()).unwrap();
    let agent = node.start();
    let seq = |response: &Response| nodeaudit::audit::EntryId::parse(response.audit_id()).unwrap().seq();
    assert_eq!(seq(&agent.call(&Request::get("/health"))), seq(&came));
    assert_eq!(poll(&agent, "", &[("If-None-Match", &tag)]).status, 200);
}

#[test]
fn a_poll_whose_time_is_over_is_answered_with_what_there_is() {
    // A longer wait ends well before the time that a call may take.
    for (config, wait) in [(PATIENT, "1s"), ("server.handler_timeout_s = 10\n", "60s")] {
        let agent = Node::new(config).start();
        agent.call(&Request::get("/health"));
        let after = poll(&agent, "?after=0", &[]).json()["cursor"]["after"].as_u64().unwrap();
        let tag = poll(&agent, "", &[]).header("ETag").unwrap().to_owned();
        thread::scope(|scope| {
            let by_tag = scope.spawn(|| poll(&agent, &format!("?wait={wait}"), &[("If-None-Match", &tag)]));
            let page = poll(&agent, &format!("?after={after}&response_code=599&wait={wait}"), &[]);
            assert_eq!((page.status, &page.json()["items"]), (200, &json!([])), "{wait}");
            assert_eq!(by_tag.join().unwrap().status, 304, "{wait}");
        });
    }
}

#[test]
fn a_poll_is_counted_while_it_waits() {
    let agent = Agent::start();
    let waiting = |polls: u64| (agent.read("/audit/status")["open_calls"]["waiting_polls"] == polls).then_some(());
    thread::scope(|scope| {
        let filtered = scope.spawn(|| poll(&agent, "?after=0&wait=20s&response_code=401", &[]));
        eventually("a poll that waits", || waiting(1));
        eventually("the same in the metrics, whose calls wake it for a moment", || {
            let metrics = agent.call(&Request::get("/metrics").bearer(&agent.token(&["read"])));
            metrics.text().contains("\nnodeaudit_waiting_polls 1\n").then_some(())
        });
        agent.call(&Request::get("/audit"));
        assert_eq!(seqs(&filtered.join().unwrap().json()).len(), 1);
    });
    assert_eq!(waiting(0), Some(()), "it is answered");
}

#[test]
fn a_poll_that_waits_is_answered_when_the_agent_stops() {
    // Whoever were not woken would be cut off.
    let agent = Node::new("server.shutdown_timeout_s = 1\n").start();
    let tag = poll(&agent, "", &[]).header("ETag").unwrap().to_owned();
    let waiting = Request::get("/audit?wait=60s").bearer(&agent.token(&["auditor"])).header("If-None-Match", &tag);
    let mut connection = agent.connect();
    connection.send(&waiting.whole());
    // The next call on another connection is later than that one.
    agent.call(&Request::get("/audit").bearer(&agent.token(&["auditor"])));
    agent.stop(Signal::SIGTERM);
    assert_eq!(connection.receive("GET").status, 304);
}

#[test]
fn a_time_to_wait_is_some_seconds() {
    let agent = Agent::start();
    for wrong in ["", "30", "61s", "-1s", "1m", "s", "1.5s"] {
        assert!(assert_is_error(&poll(&agent, &format!("?wait={wrong}"), &[]), 400).contains("wait"), "{wrong}");
    }
    assert_eq!(poll(&agent, "?wait=0s&after=0", &[]).status, 200);
}

#[test]
fn what_is_long_is_compressed_for_who_accepts_it() {
    let agent = Agent::start();
    for _ in 0..50 {
        agent.call(&Request::get("/health"));
    }
    for query in ["?as_of=50&limit=50", "/export?format=ndjson&until=2999-01-01T00:00:00Z&class=denied"] {
        let plain = poll(&agent, query, &[]);
        assert_eq!(plain.header("Content-Encoding"), None);
        let small = poll(&agent, query, &[("Accept-Encoding", "br;q=1, gzip;q=0.8, *;q=0.1")]);
        assert_eq!(small.header("Content-Encoding"), Some("gzip"), "{query}");
        assert!(small.header("Vary").unwrap().contains("accept-encoding"));
        assert!(small.body.len() * 3 < plain.body.len(), "{} of {}", small.body.len(), plain.body.len());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&small.body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, plain.text());
    }
}
