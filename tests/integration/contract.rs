//! `GET /audit` as the contract has it: names, order, defaults, bounds, errors.

use nodeaudit::auth::Permission;
use serde_json::{Value, json};

use crate::support::{Agent, Node, Request, Response, assert_is_error};

/// The fields of the contract in its order, then those of ours that every entry has.
const CONTRACT_FIELDS: [&str; 10] =
    ["id", "timestamp", "user", "roles", "method", "path", "operation_id", "source_ip", "response_code", "duration_ms"];

fn audit(agent: &Agent, query: &str) -> Response {
    agent.call(&Request::get(&format!("/audit{query}")).bearer(&agent.token(&["auditor"])))
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_page_is_the_newest_twenty_entries_unless_asked_otherwise() {
    let agent = Agent::start();
    let mut made: Vec<String> = (0..30).map(|_| agent.call(&Request::get("/health")).audit_id().to_owned()).collect();
    made.reverse();

    let first = audit(&agent, "");
    let page = first.json();
    assert_eq!(page["total_items"], 30);
    assert_eq!(ids(&page), made[..20]);
    assert!(first.text().starts_with(r#"{"total_items":30,"items":["#), "{}", first.text());
    assert_eq!(first.header("Content-Type"), Some("application/json"));

    // Each page that was read is an entry itself, newer than those before.
    let second = audit(&agent, "?limit=5&offset=1").json();
    assert_eq!((ids(&second), &second["total_items"]), (made[..5].to_vec(), &json!(31)));
    let tail = audit(&agent, "?offset=30").json();
    assert_eq!((ids(&tail), &tail["total_items"]), (made[28..].to_vec(), &json!(32)));
    let all = audit(&agent, "?limit=100&offset=3").json();
    assert_eq!(ids(&all), made);
    let seqs: Vec<u64> = all["items"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|newer, older| newer > older), "{seqs:?}");
}

#[test]
fn an_offset_past_the_end_is_an_empty_page_with_the_total() {
    let agent = Agent::start();
    for (calls_before, offset) in [(0_u64, 0_u64), (1, 1), (2, 1_000), (3, 9_223_372_036_854_775_807)] {
        let page = audit(&agent, &format!("?offset={offset}")).json();
        assert_eq!(page, json!({"total_items": calls_before, "items": []}), "{offset}");
    }
}

#[test]
fn limits_and_offsets_out_of_bounds_are_refused() {
    let agent = Agent::start();
    for limit in ["1", "20", "100", "007"] {
        assert_eq!(audit(&agent, &format!("?limit={limit}&offset=0")).status, 200, "{limit}");
    }
    let not_numbers =
        ["-1", "abc", "", "18446744073709551616", "18446744073709551615", "%2B5", "+5", "5.0", "0x10", "1e1"];
    for name in ["limit", "offset"] {
        for value in not_numbers {
            let details = assert_is_error(&audit(&agent, &format!("?{name}={value}")), 400);
            assert!(!details.is_empty(), "{name}={value}");
        }
        assert_is_error(&audit(&agent, &format!("?{name}=1&{name}=2")), 400);
        assert_is_error(&audit(&agent, &format!("?{name}")), 400);
    }
    for query in ["?limit=0", "?limit=101", "?offset=9223372036854775808", "?usr=x", "?limit=5&page=2", "?LIMIT=5"] {
        assert_is_error(&audit(&agent, query), 400);
    }
}

#[test]
fn an_entry_begins_with_the_fields_of_the_contract_in_its_order() {
    let agent = Agent::start();
    let response = agent.call(&Request::get("/node/hostname").bearer(&agent.token(&["admin", "read"])));
    let raw = agent.call(&Request::get(&format!("/audit/{}", response.audit_id())).bearer(&agent.token(&["auditor"])));
    let text = raw.text();
    let places: Vec<usize> =
        CONTRACT_FIELDS.iter().map(|name| text.find(&format!("\"{name}\":")).expect(name)).collect();
    assert!(places.is_sorted(), "{text}");
    let tenth = places[9];
    for ours in
        ["seq", "class", "outcome", "permission", "token_id", "auth_method", "boot_id", "monotonic_us", "clock_synced"]
    {
        let place = text.find(&format!("\"{ours}\":")).expect(ours);
        assert!(place > tenth, "{ours} comes after the contract's own: {text}");
    }
    let entry = &raw.json()["entry"];
    assert_eq!(entry["user"], "tester@example.com");
    assert_eq!(entry["roles"], json!(["admin", "read"]));
    assert_eq!((&entry["method"], &entry["path"]), (&json!("GET"), &json!("/node/hostname")));
    assert_eq!(entry["operation_id"], "GetNodeHostname");
    assert_eq!(entry["source_ip"], "127.0.0.1");
    assert_eq!(entry["response_code"], 200);
    assert!(entry["duration_ms"].is_u64() && entry["duration_ms"].as_u64() <= entry["duration_us"].as_u64());
    let timestamp = entry["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "RFC 3339, UTC, milliseconds: {timestamp}");
    assert_eq!(uuid::Uuid::parse_str(entry["id"].as_str().unwrap()).unwrap().get_version_num(), 7);
}

#[test]
fn an_anonymous_entry_has_an_empty_user_and_no_roles() {
    let agent = Agent::start();
    let response = agent.call(&Request::get("/node/hostname"));
    let entry = agent.entry_of(&response);
    assert_eq!((&entry["user"], &entry["roles"]), (&json!(""), &json!([])));
    for absent in ["token_id", "auth_method", "trace_id", "user_agent", "forwarded_for"] {
        assert!(entry.get(absent).is_none(), "{absent} is left out: {entry}");
    }
}

#[test]
fn an_entry_is_found_by_its_id_and_nothing_else() {
    let agent = Agent::start();
    let id = agent.call(&Request::get("/health")).audit_id().to_owned();
    let get = |id: &str| agent.call(&Request::get(&format!("/audit/{id}")).bearer(&agent.token(&["auditor"])));
    assert_eq!(get(&id).json()["entry"]["id"], id.as_str());
    assert_eq!(get(&id.to_uppercase()).json()["entry"]["id"], id.as_str());

    let simple = id.replace('-', "");
    let of_another_run = {
        let mut parsed = uuid::Uuid::parse_str(&id).unwrap().as_u128();
        parsed ^= 1;
        uuid::Uuid::from_u128(parsed).to_string()
    };
    let unknown = ["018f0000-0000-7000-8000-000000000000", "550e8400-e29b-41d4-a716-446655440000", &of_another_run];
    let malformed = ["1", "x", &simple, &format!("{id}0"), "%00", "ffffffff-ffff-7fff-bfff-ffffffffffff"];
    for id in unknown.iter().copied().chain(malformed) {
        assert_is_error(&get(id), 404);
    }
}

#[test]
fn the_same_row_is_the_same_bytes_wherever_it_is_read() {
    let agent = Agent::start();
    let made = agent
        .call(&Request::get("/node/hostname").header("User-Agent", "a \"quoted\" one").bearer(&agent.token(&["read"])));
    let token = agent.token(&["auditor"]);
    let path = format!("/audit/{}", made.audit_id());
    let (first, second) =
        (agent.call(&Request::get(&path).bearer(&token)), agent.call(&Request::get(&path).bearer(&token)));
    assert_eq!(first.body, second.body);
    let bytes = first.text().strip_prefix("{\"entry\":").and_then(|text| text.strip_suffix('}')).unwrap();
    let page = audit(&agent, "?limit=100");
    assert!(page.text().contains(bytes), "in a page: {}", page.text());
    for format in ["json", "ndjson"] {
        let export = agent.call(&Request::get(&format!("/audit/export?format={format}")).bearer(&token));
        assert!(export.text().contains(bytes), "in the export: {}", export.text());
    }
}

#[test]
fn an_export_holds_every_entry_oldest_first_in_the_format_asked_for() {
    let agent = Agent::start();
    let made: Vec<String> = (0..7).map(|_| agent.call(&Request::get("/health")).audit_id().to_owned()).collect();
    let token = agent.token(&["auditor"]);
    let json = agent.call(&Request::get("/audit/export").bearer(&token));
    assert_eq!(json.header("Content-Type"), Some("application/json"));
    assert_eq!(ids(&json.json()), made);
    assert_eq!((&json.json()["total_items"], &json.json()["evicted_items"]), (&json!(7), &json!(0)));
    let lines = agent.call(&Request::get("/audit/export").header("Accept", "application/x-ndjson").bearer(&token));
    assert_eq!(lines.header("Content-Type"), Some("application/x-ndjson"));
    let exported: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let exported: Vec<_> = exported.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!(exported[..7], made);
    assert_eq!(exported[7..], [json.audit_id()], "the export before is an entry by now");
    assert_is_error(&agent.call(&Request::get("/audit/export?format=xml").bearer(&token)), 400);
}

#[test]
fn every_refusal_has_the_error_body_and_the_header_that_helps() {
    let agent = Agent::start();
    let admin = agent.token(&["admin"]);
    let unauthorized = agent.call(&Request::get("/audit"));
    assert_is_error(&unauthorized, 401);
    assert!(unauthorized.header("WWW-Authenticate").unwrap().starts_with("Bearer"), "{unauthorized:?}");

    let forbidden = agent.call(&Request::get("/audit").bearer(&agent.token_for(&[Permission::NodeRead])));
    assert_is_error(&forbidden, 403);

    for (path, allow) in [("/node/hostname", "GET, PUT"), ("/audit", "GET"), ("/node/power/reboot", "POST")] {
        let refused = agent.call(&Request::new("DELETE", path).bearer(&admin));
        assert_is_error(&refused, 405);
        assert_eq!(refused.header("Allow"), Some(allow), "{path}");
    }

    assert_is_error(&agent.call(&Request::get("/no/such/path").bearer(&admin)), 404);

    let change = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#).bearer(&admin);
    let unavailable = agent.call(&change);
    assert_is_error(&unavailable, 503);
    let seconds: u32 = unavailable.header("Retry-After").unwrap().parse().unwrap();
    assert!(seconds > 0);
}

#[test]
fn the_status_describes_the_ring_it_counts() {
    let agent = Agent::start();
    agent.call(&Request::get("/node/hostname"));
    agent.call(&Request::get("/health"));
    let status = agent.read("/audit/status");
    assert_eq!((&status["entries"], &status["first_seq"], &status["last_seq"]), (&json!(2), &json!(1), &json!(2)));
    assert_eq!(status["health"], "ok");
    let by_class: Vec<_> = status["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| (class["class"].as_str(), class["entries"].as_u64()))
        .collect();
    assert_eq!(by_class, [(Some("change"), Some(0)), (Some("read"), Some(0)), (Some("denied"), Some(2))]);
    for nothing in ["evicted", "dropped", "interrupted"] {
        assert_eq!(status[nothing], 0, "{nothing}");
    }
    assert!(status["bytes"].as_u64() <= status["max_bytes"].as_u64());
    assert!(status["last_commit_us"].as_u64() > Some(0), "{status}");
    let before = status["written_bytes"].as_u64().unwrap();
    // A kernel that does not account for it says 0, and so does a file system without storage.
    if before > 0 {
        (0..50).for_each(|_| drop(agent.read("/audit/status")));
        assert!(agent.read("/audit/status")["written_bytes"].as_u64() > Some(before));
    }
}

#[test]
fn the_contract_holds_below_the_path_that_its_clients_call() {
    let agent = Node::new("server.base_path = \"/api\"\n").start();
    let token = agent.token(&["admin"]);
    let get = |path: &str| agent.call(&Request::get(path).bearer(&token));
    (0..3).for_each(|_| drop(get("/api/node/hostname")));
    let first = get("/api/audit?limit=2");
    let page = first.json();
    assert_eq!((&page["total_items"], page["items"].as_array().unwrap().len()), (&json!(3), 2));
    assert_eq!(page["items"][0]["path"], "/api/node/hostname");
    assert_eq!(page["items"][0]["operation_id"], "GetNodeHostname");
    let id = page["items"][1]["id"].as_str().unwrap();
    assert_eq!(get(&format!("/api/audit/{id}")).json()["entry"], page["items"][1]);
    let next = first.header("Link").unwrap().split('>').next().unwrap().trim_start_matches('<').to_owned();
    assert_eq!(get(&format!("/api/audit{next}")).json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(get("/api/openapi.json").json()["servers"][0]["url"], "/api");
    assert_is_error(&get("/audit"), 404);
}
