//! Nothing unrecorded, and no secret recorded: calls that name no operation, that are malformed, refused or given up.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Agent, Connection, Ledger, Node, Request, assert_is_error, begin_change, eventually, now_s, open_intents, sign,
};

/// Class, outcome and status of an entry.
fn gist(entry: &Value) -> (&str, &str, u64) {
    let text = |name: &str| entry[name].as_str().unwrap();
    (text("class"), text("outcome"), entry["response_code"].as_u64().unwrap())
}

#[test]
fn a_call_that_names_no_operation_leaves_an_entry() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let token = agent.token(&["read"]);
    for (method, path, status) in [
        ("GET", "/no/such/path", 404),
        ("GET", "/", 404),
        ("GET", "/audit/", 404),
        ("GET", "//audit", 404),
        ("GET", "/node/hostname/", 404),
        ("DELETE", "/node/hostname", 405),
        ("POST", "/audit", 405),
        ("OPTIONS", "/node/hostname", 405),
        ("OPTIONS", "*", 404),
        ("TRACE", "/node/hostname", 405),
        ("HEAD", "/node/hostname", 405),
        ("HEAD", "/no/such/path", 404),
        ("PROPFIND", "/node/hostname", 405),
        ("PATCH", "/node/service/x/start", 405),
    ] {
        let request = Request::new(method, path);
        for (request, class, user) in
            [(request.clone(), "denied", ""), (request.bearer(&token), "read", "tester@example.com")]
        {
            let response = agent.call(&request);
            let case = format!("{method} {path} by {user:?}");
            assert_eq!(response.status, status, "{case}");
            if method != "HEAD" {
                assert_is_error(&response, status);
            }
            let entry = ledger.only();
            assert_eq!(gist(&entry), (class, "completed", status.into()), "{case}");
            assert_eq!((&entry["method"], &entry["path"]), (&json!(method), &json!(path)), "{case}");
            assert_eq!((&entry["operation_id"], &entry["user"]), (&json!(""), &json!(user)), "{case}");
            assert_eq!(entry["id"], response.audit_id(), "{case}");
        }
    }
}

#[test]
fn bytes_that_are_no_request_leave_a_rejected_entry() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let many_headers = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(120));
    for bytes in [
        "\u{0}\u{1}garbage\r\n\r\n",
        "GET /\u{202e}é HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nUser-Agent: \u{1b}[31m\r\n\r\n",
        "POST /audit HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST /audit HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        &many_headers,
    ] {
        let mut connection = Connection::open(agent.address());
        connection.send(bytes.as_bytes());
        let response = connection.receive("GET");
        assert!((400..500).contains(&response.status), "{bytes:?}: {response:?}");
        let entries = ledger.awaited("the entry of what is no request");
        let gists: Vec<_> = entries.iter().map(gist).collect();
        assert_eq!(gists, [("denied", "rejected", response.status.into())], "{bytes:?}: {entries:#?}");
        assert_eq!((&entries[0]["user"], &entries[0]["source_ip"]), (&json!(""), &json!("127.0.0.1")), "{bytes:?}");
        let served = entries[0].to_string();
        assert!(!served.contains(['\u{1b}', '\u{202e}']), "{served}");
    }
}

#[test]
fn a_client_that_goes_away_within_its_head_leaves_a_rejected_entry() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let mut connection = Connection::open(agent.address());
    connection.send(b"GET /node/hostname HTTP/1.1\r\nHost: a\r\nAuthoriz");
    connection.close_sending_side();
    let entries = ledger.awaited("the entry of half a head");
    assert_eq!(entries.len(), 1, "{entries:#?}");
    assert_eq!((&entries[0]["class"], &entries[0]["outcome"]), (&json!("denied"), &json!("rejected")));
}

#[test]
fn a_later_head_that_never_ends_is_cut_off_and_leaves_a_rejected_entry() {
    let agent = Node::new("[server]\nclient_timeout_ms = 1000\n").start();
    let mut ledger = Ledger::open(&agent);
    let mut connection = TcpStream::connect(agent.address()).unwrap();
    connection.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut first = [0; 1];
    connection.read_exact(&mut first).unwrap();
    connection.write_all(b"GET /audit HTTP/1.1\r\nHos").unwrap();
    connection.read_to_end(&mut Vec::new()).unwrap();
    let mut entries = ledger.news();
    if entries.len() < 2 {
        entries.extend(ledger.awaited("the entry of the head that never ended"));
    }
    let gists: Vec<_> = entries.iter().map(gist).collect();
    assert_eq!(gists, [("denied", "completed", 200), ("denied", "rejected", 0)], "{entries:#?}");
    assert_eq!(entries[1]["path"], "/audit");
}

#[test]
fn empty_lines_before_a_request_are_no_request() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let mut connection = TcpStream::connect(agent.address()).unwrap();
    let request = b"\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    connection.write_all(request).unwrap();
    connection.read_to_end(&mut Vec::new()).unwrap();
    drop(connection);
    // The next call's entry comes after what the connection left behind.
    agent.call(&Request::get("/version"));
    let paths: Vec<_> = ledger.news().iter().map(|entry| entry["path"].clone()).collect();
    assert_eq!(paths, ["/health", "/health", "/version"]);
}

#[test]
fn calls_of_nobody_in_particular_evict_nothing_of_known_callers() {
    // More entries of refused calls than the ring holds, none of them counted in another one.
    let agent = Node::new("[audit]\nmax_entries = 500\ndenied_entries = 4096\n").start();
    let kept = agent.call(&Request::get("/node/load").bearer(&agent.token(&["read"])));
    let mut connection = Connection::open(agent.address());
    let floods = [Request::get("/health"), Request::get("/nothing"), Request::get("/audit")];
    for request in floods.iter().cycle().take(3_000) {
        connection.call(request);
    }
    assert_eq!(agent.entry_of(&kept)["operation_id"], "GetNodeLoad");
    let status = agent.read("/audit/status");
    let evicted: Vec<_> = status["classes"].as_array().unwrap().iter().map(|class| class["evicted"].as_u64()).collect();
    assert!(evicted[0] == Some(0) && evicted[1] == Some(0) && evicted[2] > Some(2_000), "{status}");
}

#[test]
fn a_change_with_an_unusable_body_leaves_an_entry() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let token = agent.token(&["admin"]);
    let put = || Request::new("PUT", "/node/hostname").bearer(&token);
    let too_large = format!(r#"{{"hostname": "{}"}}"#, "a".repeat(70_000));
    for (request, status) in [
        (put().json("{"), 400),
        (put().json("[]"), 400),
        (put().json(r#"["node-7"]"#), 400),
        (put().json(r#"{"hostname": "a", "more": 1}"#), 400),
        (put().json("\u{0}"), 400),
        (put(), 415),
        (put().body(r#"{"hostname": "a"}"#), 415),
        (put().header("Content-Type", "text/plain").body(r#"{"hostname": "a"}"#), 415),
        (put().json(&too_large), 413),
    ] {
        let response = agent.call(&request);
        assert_is_error(&response, status);
        let entry = ledger.only();
        assert_eq!(gist(&entry), ("change", "completed", status.into()));
        assert_eq!(entry["id"], response.audit_id());
    }
}

#[test]
fn a_token_that_is_not_accepted_is_denied_and_none_of_it_is_kept() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let claims = |more: Value| {
        let mut claims =
            json!({"sub": "mallory-subject", "exp": now_s() + 600, "roles": ["mallory-role"], "jti": "mallory-id"});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let good = agent.token(&["admin"]);
    let expired = agent.sign(&claims(json!({"exp": now_s() - 3_600})));
    let early = agent.sign(&claims(json!({"nbf": now_s() + 3_600})));
    let eternal_text = agent.sign(&claims(json!({"exp": "never"})));
    let forged = sign(&claims(json!({})), &[b'k'; 32]);
    let unsigned = format!("{}.", forged.rsplit_once('.').unwrap().0);
    let basic = Request::get("/node/hostname").header("Authorization", "Basic bWFsbG9yeTpzZWNyZXQ=");
    let twice = Request::get("/node/hostname").bearer(&good).bearer(&good);
    let long = "m".repeat(6_000);
    let requests = [&expired, &early, &eternal_text, &forged, &unsigned, &long]
        .map(|token| Request::get("/node/hostname").bearer(token));
    for request in requests.into_iter().chain([basic, twice]) {
        let response = agent.call(&request);
        let details = assert_is_error(&response, 401);
        assert!(response.header("WWW-Authenticate").is_some());
        let entry = ledger.only();
        assert_eq!(gist(&entry), ("denied", "completed", 401), "{details}");
        assert_eq!((&entry["user"], &entry["roles"]), (&json!(""), &json!([])));
        let text = format!("{entry} {details}");
        for part in [good.as_str(), "mallory", "bWFsbG9yeTpzZWNyZXQ", "mmmmmmmm", expired.rsplit('.').next().unwrap()] {
            assert!(!text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn calls_that_are_open_when_the_agent_stops_leave_aborted_entries() {
    const CALLS: u64 = 400;
    let agent = Node::new("server.shutdown_timeout_s = 0\nserver.max_connections_per_peer = 512\n").start();
    let request = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#);
    let head = request.bearer(&agent.token(&["admin"])).head();
    let mut open: Vec<_> = (0..CALLS).map(|_| Connection::open(agent.address())).collect();
    for connection in &mut open {
        connection.send(&head);
    }
    eventually("the intents in the ring file", || (open_intents(agent.node()) == CALLS).then_some(()));
    let (node, log) = agent.stop(Signal::SIGTERM);
    assert!(!log.contains("could not be stored"), "{log}");
    assert_eq!(open_intents(&node), 0, "each was given up, and is told as that");
    let status = node.start().read("/audit/status");
    assert_eq!((&status["interrupted"], &status["entries"]), (&json!(0), &json!(CALLS)), "{status}");
}

#[test]
fn a_client_that_gives_up_leaves_an_aborted_entry() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let connection = begin_change(&agent);
    connection.reset();
    let entries = ledger.awaited("the entry of the call that was given up");
    assert_eq!(entries.iter().map(gist).collect::<Vec<_>>(), [("change", "aborted", 0)]);
    assert_eq!(entries[0]["operation_id"], "PutNodeHostname");
    assert_eq!(entries[0]["user"], "tester@example.com");
    // Its intent is closed: nothing is interrupted after a restart.
    let agent = agent.stop(Signal::SIGTERM).0.start();
    assert_eq!(agent.read("/audit/status")["interrupted"], 0);
}

#[test]
fn a_client_that_ends_its_body_early_is_told_and_recorded() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let mut connection = begin_change(&agent);
    connection.close_sending_side();
    let response = connection.receive("PUT");
    assert_is_error(&response, 400);
    let entry = ledger.only();
    assert_eq!(gist(&entry), ("change", "completed", 400));
    assert_eq!(entry["id"], response.audit_id());
}

#[test]
fn what_acts_on_a_terminal_is_escaped_and_what_is_too_long_is_cut() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let path = format!("/{}", "p".repeat(8_000));
    agent.call(&Request::get(&path));
    let entry = ledger.only();
    let stored = entry["path"].as_str().unwrap();
    assert_eq!(stored.len(), 1_024);
    assert!(stored.starts_with("/ppp") && stored.ends_with("...(8001 bytes)"), "{stored}");

    agent.call(&Request::get("/%1b%5b31m/%00/%e2%80%ae").header("User-Agent", "a\tb\u{9b}31m\u{202e}c\"\\é"));
    let entry = ledger.only();
    assert_eq!(entry["user_agent"], "a\\u{9}b\\u{9b}31m\\u{202e}c\"\\é");
    assert_eq!(entry["path"], "/%1b%5b31m/%00/%e2%80%ae");

    agent.call(&Request::get("/health").header("User-Agent", "u".repeat(8_000)));
    let stored = ledger.only()["user_agent"].as_str().unwrap().to_owned();
    assert!(stored.len() == 256 && stored.ends_with("...(8000 bytes)"), "{stored}");

    agent.call(&Request::get("/health").header("User-Agent", [b'x', 0xff, 0xc3]));
    assert_eq!(ledger.only()["user_agent"], "x\u{fffd}\u{fffd}");

    let long_method = "M".repeat(200);
    agent.call(&Request::new(&long_method, "/health"));
    let entry = ledger.only();
    assert_eq!((entry["method"].as_str().unwrap().len(), &entry["response_code"]), (32, &json!(405)));
}

#[test]
fn a_trace_id_ties_an_entry_to_its_trace() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    agent.call(&Request::get("/health").header("traceparent", good));
    assert_eq!(ledger.only()["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    agent.call(&Request::get("/health").header("traceparent", "00-nonsense-01"));
    assert!(ledger.only().get("trace_id").is_none());
    // Nobody is believed who claims to speak for another.
    agent.call(&Request::get("/health").header("X-Forwarded-For", "192.0.2.1").header("Forwarded", "for=192.0.2.1"));
    let entry = ledger.only();
    assert_eq!((&entry["source_ip"], entry.get("forwarded_for")), (&json!("127.0.0.1"), None));
}

#[test]
fn no_secret_of_a_request_reaches_the_disk_or_the_log() {
    let agent = Node::new("log.level = \"trace\"\n").start();
    let token = agent.token(&["admin"]);
    let secrets = ["query-SECRET", "name-SECRET", "body-SECRET", "header-SECRET", "cookie-SECRET", "token-SECRET"];
    let query = Request::get("/node/hostname?token=query-SECRET&name-SECRET").bearer(&token);
    assert_eq!(agent.call(&query).status, 400);
    for path in ["/audit?key=query-SECRET", "/no/such/path?query-SECRET", "/node/log?lines=query-SECRET"] {
        agent.call(&Request::get(path).bearer(&token));
        agent.call(&Request::get(path));
    }
    let body = r#"{"hostname": "body-SECRET_", "body-SECRET": 1}"#;
    agent.call(&Request::new("PUT", "/node/hostname").json(body).bearer(&token));
    agent.call(&Request::new("PUT", "/node/timezone").json("body-SECRET").bearer(&token));
    let headers = Request::get("/health").header("X-Api-Key", "header-SECRET").header("Cookie", "id=cookie-SECRET");
    agent.call(&headers.header("Referer", "http://x/?header-SECRET"));
    agent.call(&Request::get("/node/hostname").bearer("token-SECRET"));
    agent.call(&Request::get("/node/hostname").header("Authorization", "Basic token-SECRET"));
    assert_eq!(agent.read("/audit")["total_items"], 12, "all of them are recorded");

    let key = fs::read_to_string(agent.node().state_dir().join("token.key")).unwrap();
    let (node, output) = agent.stop(Signal::SIGTERM);
    let signature = token.rsplit('.').next().unwrap();
    for secret in secrets.into_iter().chain([signature, key.trim()]) {
        assert!(!output.contains(secret), "{secret} in the log:\n{output}");
        for file in files(&node.state_dir()).into_iter().filter(|path| !path.ends_with("token.key")) {
            let bytes = fs::read(&file).unwrap();
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} in {}", file.display());
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().any(|path| path.ends_with("ring.sqlite")), "{files:?}");
    files
}
