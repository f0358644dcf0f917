//! What every response says to browsers and caches, whoever made it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::{Agent, Connection, Node, Request};

const EVERYWHERE: [&str; 5] = [
    "server: nodeaudit",
    "x-content-type-options: nosniff",
    "cache-control: no-store",
    "content-security-policy: default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy: same-origin",
];

/// The head of the answer to these bytes.
fn head_of(agent: &Agent, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(agent.address()).unwrap();
    stream.write_all(bytes).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {}", head.escape_ascii()));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn every_response_keeps_browsers_and_caches_from_using_it() {
    let agent = Node::new("[server]\nmax_connections_per_peer = 20\n").start();
    // Waits for no head any longer than the test wants to.
    let hasty = Node::new("[server]\nclient_timeout_ms = 300\n").start();
    let token = agent.token(&["admin"]);
    let with = |request: Request| request.bearer(&token).whole();
    let catalogue = [
        (200, with(Request::get("/node/hostname"))),
        (200, Request::get("/health").whole()),
        (200, with(Request::get("/audit/export"))),
        (200, Request::get("/openapi.json").header("Origin", "https://elsewhere.example").whole()),
        (401, Request::get("/node/hostname").whole()),
        (404, with(Request::get("/nowhere"))),
        (405, Request::new("OPTIONS", "/health").header("Origin", "https://elsewhere.example").whole()),
        (400, with(Request::get("/node/hostname?x=1"))),
        (413, with(Request::new("PUT", "/node/hostname").json(&"x".repeat(70_000)))),
        // The HTTP library's own.
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec()),
        (400, b"nonsense\r\n\r\n".to_vec()),
        (408, b"GET / HTTP/1.1\r\n".to_vec()),
        (431, with(Request::get("/").header("X-Long", "x".repeat(200_000)))),
    ];
    for (status, bytes) in catalogue {
        let head = head_of(if status == 408 { &hasty } else { &agent }, &bytes).to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{status}: {head}");
        for line in EVERYWHERE {
            assert_eq!(head.lines().filter(|&found| found == line).count(), 1, "{line}: {head}");
        }
        let names: Vec<_> = head.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        assert!(!names.iter().any(|name| name.starts_with("access-control-")), "there is no CORS: {head}");
        assert_eq!(names.iter().filter(|&&name| name == "server").count(), 1, "{head}");
    }
    // Places of connections that were closed a moment ago are still to be given back: others are opened until all are taken.
    let mut others = Vec::new();
    let refusal = crate::support::eventually("a connection that is refused", || {
        others.push(TcpStream::connect(agent.address()).unwrap());
        let answer = head_of(&agent, &Request::get("/health").whole());
        answer.starts_with("HTTP/1.1 429 ").then_some(answer)
    });
    assert!(EVERYWHERE.iter().all(|line| refusal.contains(line)), "{refusal}");
}

/// A proxy puts a connection back among those it has unless the answer says that it ends: its next call would meet a closed one and be
/// neither answered nor recorded.
#[test]
fn an_answer_after_which_the_connection_ends_says_so() {
    let agent = Agent::start();
    let last: [(u16, &[u8]); 6] = [
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nX\xc4\xb1: y\r\n\r\n"),
        (404, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (404, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
        (404, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"),
        (404, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nhello"),
    ];
    for (status, bytes) in last {
        for calls_before in [0, 1, 3] {
            let mut connection = Connection::open(agent.address());
            (0..calls_before).for_each(|_| assert_eq!(connection.call(&Request::get("/health")).status, 200));
            connection.send(bytes);
            let answer = connection.receive("GET");
            let told: Vec<_> =
                answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection")).collect();
            assert_eq!(answer.status, status);
            assert!(
                matches!(told[..], [(_, value)] if value == "close"),
                "{} after {calls_before}: {:?}",
                bytes.escape_ascii(),
                answer.headers
            );
        }
    }
}
