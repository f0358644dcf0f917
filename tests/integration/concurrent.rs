//! Many at once: no call without its entry, none twice, and everyone sees what was answered before.

use std::collections::{BTreeMap, HashSet};
use std::thread;

use serde_json::Value;

use crate::support::{Connection, Node, Request};

const CONNECTIONS: u64 = 64;
const CALLS: u64 = 10_000;

/// Every so many calls a connection looks for the one it made before.
const LOOK_EVERY: u64 = 25;

#[test]
fn ten_thousand_calls_over_64_connections_are_ten_thousand_entries() {
    // While a commit takes its time, no refused call is counted with others.
    let agent = Node::new("audit.denied_entries = 4096\n").start();
    let before = agent.read("/audit/status")["entries"].as_u64().unwrap();
    let admin = agent.token(&["admin"]);
    let change = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#).bearer(&admin);
    let mix = [
        (Request::get("/node/hostname").bearer(&admin), 200),
        (Request::get("/health"), 200),
        (Request::get("/node/hostname"), 401),
        (Request::get("/no/such/path"), 404),
        (change, 503),
        (Request::get("/node/uptime").bearer("nonsense"), 401),
    ];
    let page = Request::get("/audit?limit=100").bearer(&admin);

    let answered: Vec<(String, u16)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (agent, mix, page) = (&agent, &mix, &page);
                scope.spawn(move || {
                    let calls = CALLS / CONNECTIONS + u64::from(number < CALLS % CONNECTIONS);
                    let mut connection = Connection::open(agent.address());
                    let mut answered: Vec<(String, u16)> = Vec::new();
                    for call in 0..calls {
                        let looks = call % LOOK_EVERY == LOOK_EVERY - 1;
                        let (request, status) = if looks {
                            (page, 200)
                        } else {
                            let (request, status) = &mix[usize::try_from(number + call).unwrap() % mix.len()];
                            (request, *status)
                        };
                        let response = connection.call(request);
                        assert_eq!(response.status, status, "{}", response.text());
                        if looks {
                            assert_shows(&response.json(), &answered);
                        }
                        answered.push((response.audit_id().to_owned(), status));
                    }
                    answered
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answered.len() as u64, CALLS);

    let export = agent.call(&Request::get("/audit/export?format=ndjson").bearer(&admin));
    let entries: Vec<Value> = export.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<u64> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    // The look at the status before is an entry too.
    let expected: Vec<u64> = (1..=before + 1 + CALLS).collect();
    assert_eq!(seqs, expected, "no hole, none twice, oldest first");
    let recorded: BTreeMap<&str, u64> =
        entries.iter().map(|e| (e["id"].as_str().unwrap(), e["response_code"].as_u64().unwrap())).collect();
    for (id, status) in &answered {
        assert_eq!(recorded.get(id.as_str()), Some(&u64::from(*status)), "{id}");
    }
    let distinct: HashSet<_> = answered.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), answered.len(), "each response names an entry of its own");
    let status = agent.read("/audit/status");
    assert_eq!((status["dropped"].as_u64(), status["evicted"].as_u64()), (Some(0), Some(0)));
}

/// What was answered on a connection before is in the next page, unless so many newer entries are that it is beyond the page.
fn assert_shows(page: &Value, answered: &[(String, u16)]) {
    let items = page["items"].as_array().unwrap();
    let ids: HashSet<&str> = items.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    let oldest = items.last().unwrap()["seq"].as_u64().unwrap();
    for (id, _) in answered {
        let seq = nodeaudit::audit::EntryId::parse(id).unwrap().seq().0;
        assert!(seq < oldest || ids.contains(id.as_str()), "seq {seq} is missing between {oldest} and the newest");
    }
    assert!(page["total_items"].as_u64().unwrap() >= answered.len() as u64);
}
