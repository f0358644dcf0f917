//! What Prometheus reads of an agent.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Agent, Node, Request, can_isolate};

const PROMTOOL: &str = "/usr/bin/promtool";

fn metrics(agent: &Agent) -> String {
    let response = agent.call(&Request::get("/metrics").bearer(&agent.token(&["read"])));
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.header("Content-Type").unwrap().starts_with("text/plain; version=0.0.4"), "{response:?}");
    response.text().to_owned()
}

/// The value of a sample.
fn value(metrics: &str, sample: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {metrics}")).parse().unwrap()
}

#[test]
fn calls_are_counted_by_what_the_agent_knows_and_by_nothing_that_callers_write() {
    let agent = Agent::start();
    let admin = agent.token(&["admin"]);
    for _ in 0..3 {
        agent.call(&Request::get("/node/hostname").bearer(&admin));
        agent.call(&Request::get("/node/hostname"));
        agent.call(&Request::get("/no/such/path-by-a-caller").header("User-Agent", "by-a-caller").bearer(&admin));
    }
    agent.read("/audit?limit=1");
    let metrics = metrics(&agent);
    let calls = |operation: &str, code: &str| {
        value(&metrics, &format!("nodeaudit_calls_total{{operation=\"{operation}\",code=\"{code}\"}}"))
    };
    assert_eq!((calls("GetNodeHostname", "2xx"), calls("GetNodeHostname", "4xx"), calls("", "4xx")), (3, 3, 3));
    assert!(!metrics.contains("caller"), "{metrics}");
    assert_eq!(value(&metrics, "nodeaudit_call_duration_seconds_count{class=\"denied\"}"), 3);
    assert_eq!(value(&metrics, "nodeaudit_call_duration_seconds_bucket{class=\"denied\",le=\"+Inf\"}"), 3);
    assert_eq!(value(&metrics, "nodeaudit_entries{class=\"denied\"}"), 3);
    assert!(value(&metrics, "nodeaudit_newest_seq") >= 9);
    assert!(value(&metrics, "nodeaudit_commit_duration_seconds_count") >= 1);
    assert_eq!(value(&metrics, "nodeaudit_store_healthy"), 1);
    assert!(agent.read("/audit/status")["last_commit_us"].is_u64());
}

#[test]
fn each_class_has_its_own_numbers_of_what_was_lost() {
    let agent = Node::new("audit.max_entries = 200\naudit.denied_entries = 4096\n").start();
    let (mut connection, reader) = (agent.connect(), agent.token(&["read"]));
    (0..400).for_each(|_| drop(connection.call(&Request::get("/node/load").bearer(&reader))));
    (0..900).for_each(|_| drop(connection.call(&Request::get("/health"))));
    let (node, _) = agent.stop(Signal::SIGTERM);
    let path = node.state_dir().join(nodeaudit::audit::ring::FILE_NAME);
    // As after power cuts, full disks and damage.
    let losses =
        "UPDATE loss SET dropped = 10 + class, interrupted = 20 + class, coalesced = 30 + class, lost = 40 + class";
    rusqlite::Connection::open(path).unwrap().execute(losses, []).unwrap();
    let agent = node.start();

    let evicted = |status: &Value| {
        let classes = status["classes"].as_array().unwrap();
        classes.iter().map(|class| class["evicted"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let before = evicted(&agent.read("/audit/status"));
    let metrics = metrics(&agent);
    let after = evicted(&agent.read("/audit/status"));
    assert!(before[0] == 0 && before[1] > 100 && before[2] > 2 * after[1], "no two are alike: {before:?}");
    for (index, class) in (0..).zip(["change", "read", "denied"]) {
        let of = |family: &str| value(&metrics, &format!("nodeaudit_{family}_total{{class=\"{class}\"}}"));
        let at = usize::try_from(index).unwrap();
        assert!((before[at]..=after[at]).contains(&of("evicted_entries")), "{class}: {before:?} {metrics}");
        let losses = ["dropped_calls", "interrupted_changes", "coalesced_calls", "lost_entries"].map(of);
        assert_eq!(losses, [10, 20, 30, 40].map(|number| number + index), "{class}");
    }
}

#[test]
fn the_tool_of_prometheus_has_nothing_against_it() {
    if !can_isolate(&[PROMTOOL]) {
        return;
    }
    let agent = Agent::start();
    agent.call(&Request::get("/health"));
    agent.read("/audit");
    let mut check = Command::new(PROMTOOL)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics(&agent).as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
