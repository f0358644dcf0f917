//! Peers that take their time, take too much, or send more than one request at once: each is answered or cut off, and recorded.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use serde_json::{Value, json};

use crate::support::{
    Agent, Authority, Connection, Ledger, Node, Request, Response, TlsClient, assert_is_error, eventually,
};

/// Class, outcome and status of an entry.
fn gist(entry: &Value) -> (&str, &str, u64) {
    let text = |name: &str| entry[name].as_str().unwrap();
    (text("class"), text("outcome"), entry["response_code"].as_u64().unwrap())
}

/// A connection from that address of the loopback.
fn open_from(source: [u8; 4], agent: &Agent) -> TcpStream {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    let [a, b, c, d] = source;
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).unwrap();
    let SocketAddr::V4(address) = agent.address() else { panic!("tests listen on IPv4") };
    connect(socket.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    socket.into()
}

#[test]
fn a_body_that_stalls_is_answered_with_408_and_recorded() {
    let agent = Node::new("server.body_timeout_ms = 300\n").start();
    let mut ledger = Ledger::open(&agent);
    let head = Request::new("PUT", "/node/hostname")
        .bearer(&agent.token(&["admin"]))
        .json("{\"hostname\": \"node-7\"}")
        .head();
    for begun in [&b""[..], b"{\"hostname\""] {
        let mut connection = Connection::open(agent.address());
        connection.send(&head);
        connection.send(begun);
        let response = connection.receive("PUT");
        assert_is_error(&response, 408);
        let entry = ledger.only();
        assert_eq!(gist(&entry), ("change", "completed", 408));
        assert_eq!(entry["id"], response.audit_id());
    }
}

#[test]
fn a_refused_call_with_a_body_that_never_comes_does_not_keep_its_connection() {
    let agent = Node::new("server.body_timeout_ms = 300\n").start();
    let mut ledger = Ledger::open(&agent);
    for head in ["Content-Length: 9\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut connection = TcpStream::connect(agent.address()).unwrap();
        connection.write_all(format!("PUT /node/hostname HTTP/1.1\r\nHost: a\r\n{head}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert_eq!(gist(&ledger.only()), ("denied", "completed", 401), "{head}");
    }
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let agent = Node::new("server.write_timeout_ms = 300\n").start();
    let token = agent.token(&["admin"]);
    let mut connection = Connection::open(agent.address());
    let long = Request::get(&format!("/node/{}", "x".repeat(900))).bearer(&token);
    (0..12_000).for_each(|_| drop(connection.call(&long)));
    let mut stalled = TcpStream::connect(agent.address()).unwrap();
    stalled.write_all(&Request::get("/audit/export").bearer(&token).whole()).unwrap();
    eventually("a connection that is cut off", || stalled.write_all(b"\n").is_err().then_some(()));
    let mut received = Vec::new();
    let _ = stalled.read_to_end(&mut received);
    assert!(!received.ends_with(b"0\r\n\r\n"), "the export did not fit what the kernel holds back");
}

#[test]
fn a_client_that_reads_slowly_but_steadily_has_all_of_an_export() {
    let agent = Node::new("server.write_timeout_ms = 1000\n").start();
    let token = agent.token(&["admin"]);
    let mut connection = Connection::open(agent.address());
    let long = Request::get(&format!("/node/{}", "x".repeat(900))).bearer(&token);
    (0..2_000).for_each(|_| drop(connection.call(&long)));
    let mut slow = TcpStream::connect(agent.address()).unwrap();
    slow.write_all(&Request::get("/audit/export").bearer(&token).header("Connection", "close").whole()).unwrap();
    let (mut received, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let read = slow.read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        received.extend_from_slice(&part[..read]);
        // The pace of the reader is what is tested.
        thread::sleep(Duration::from_millis(50));
    }
    assert!(received.ends_with(b"\r\n0\r\n\r\n"), "cut off after {} bytes", received.len());
}

#[test]
fn a_connection_on_which_no_request_comes_ends_whatever_else_comes() {
    let agent = Node::new("[server]\nkeep_alive_s = 1\nclient_timeout_ms = 200\n").start();
    let chunked = "PUT /node/hostname HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\n";
    for (first, then) in [("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n"), (chunked, "")] {
        let mut connection = TcpStream::connect(agent.address()).unwrap();
        connection.write_all(first.as_bytes()).unwrap();
        connection.read_exact(&mut [0; 12]).unwrap();
        let _ = connection.write_all(then.as_bytes());
        connection.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let ended = connection.read_to_end(&mut Vec::new());
        let reset = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(ended.is_ok() || reset, "{ended:?} after {first:?}");
    }
}

#[test]
fn a_peer_has_so_many_connections_and_is_told_so() {
    let agent = Node::new("server.max_connections_per_peer = 3\n").start();
    let mut ledger = Ledger::open(&agent);
    let mut held: Vec<_> = (0..3).map(|_| open_from([127, 0, 0, 9], &agent)).collect();
    for connection in &mut held {
        connection.write_all(&Request::get("/health").whole()).unwrap();
        connection.read_exact(&mut [0; 12]).unwrap();
    }
    ledger.news();
    let mut refused = open_from([127, 0, 0, 9], &agent);
    refused.write_all(&Request::get("/health").whole()).unwrap();
    let mut answer = String::new();
    refused.shutdown(Shutdown::Write).unwrap();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: 1"), "{answer}");
    let entry = ledger.only();
    assert_eq!(gist(&entry), ("denied", "rejected", 429));
    assert_eq!(entry["source_ip"], json!(IpAddr::from(Ipv4Addr::new(127, 0, 0, 9))));
    // Another peer, and this one when it has let go of one.
    assert!(open_from([127, 0, 0, 10], &agent).write_all(b"\r\n").is_ok());
    held.pop();
    eventually("a place that is free again", || {
        let mut connection = open_from([127, 0, 0, 9], &agent);
        connection.write_all(&Request::get("/health").whole()).unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).unwrap();
        (&answer == b"HTTP/1.1 200").then_some(())
    });
}

#[test]
fn over_tls_a_connection_too_many_is_not_answered_and_its_entry_says_so() {
    let authority = Authority::new();
    let settings = "handshake_timeout_ms = 60000\n[server]\nmax_connections_per_peer = 2";
    let agent = authority.issue("node").node(TlsClient::new(&authority.certificate, None), settings).start();
    let mut ledger = Ledger::open(&agent);
    // Which of them is the one too many is for the workers to say.
    let mut connections = [(); 3].map(|()| open_from([127, 0, 0, 9], &agent));
    let entry = &ledger.awaited("a connection too many")[0];
    assert_eq!(gist(entry), ("denied", "rejected", 0));
    assert_eq!(entry["path"], "handshake: the peer has as many connections as it may have");
    eventually("its end, without a byte", || {
        let ended = connections.iter_mut().filter_map(|connection| {
            connection.set_nonblocking(true).unwrap();
            connection.read(&mut [0]).ok()
        });
        Some(ended.collect::<Vec<_>>()).filter(|ended| *ended == [0])
    });
}

#[test]
fn requests_that_come_all_at_once_are_answered_and_recorded_in_their_order() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let token = agent.token(&["admin"]);
    let put = Request::new("PUT", "/node/hostname").bearer(&token).json("{\"hostname\": \"node-7\"}");
    let chunked = format!(
        "PUT /node/timezone HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\n{{\r\n\r\n\r\n1;x=y\r\n}}\r\n0\r\n\r\n"
    );
    let kinds: [(&str, Vec<u8>, u16, &str); 4] = [
        ("GET", Request::get("/health").whole(), 200, "/health"),
        ("HEAD", Request::new("HEAD", "/health").whole(), 405, "/health"),
        ("PUT", put.whole(), 503, "/node/hostname"),
        ("PUT", chunked.into_bytes(), 400, "/node/timezone"),
    ];
    let order: Vec<_> = kinds.iter().cycle().take(40).collect();
    let mut connection = Connection::open(agent.address());
    connection.send(&order.iter().flat_map(|(_, bytes, ..)| bytes).copied().collect::<Vec<_>>());
    let answered: Vec<_> = order.iter().map(|(method, ..)| connection.receive(method)).collect();
    let statuses: Vec<_> = answered.iter().map(|response| response.status).collect();
    assert_eq!(statuses, order.iter().map(|kind| kind.2).collect::<Vec<_>>());
    let entries = ledger.news();
    let told: Vec<_> =
        entries.iter().map(|entry| (entry["method"].as_str().unwrap(), entry["path"].as_str().unwrap())).collect();
    assert_eq!(told, order.iter().map(|kind| (kind.0, kind.3)).collect::<Vec<_>>());
    let ids: Vec<_> = entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!(ids, answered.iter().map(Response::audit_id).collect::<Vec<_>>());
}

#[test]
fn requests_that_were_sent_at_once_and_given_up_are_recorded_each() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let token = agent.token(&["admin"]);
    // A change that waits for its body, and what stands behind it.
    let head = Request::new("PUT", "/node/hostname").bearer(&token).json("{}").head();
    let mut connection = Connection::open(agent.address());
    connection
        .send(&[head, b"{}".to_vec(), Request::get(&format!("/{}", "p".repeat(1_500))).whole().repeat(7)].concat());
    connection.send(b"GET /half HTT");
    connection.reset();
    let mut entries: Vec<Value> = Vec::new();
    eventually("nine entries", || {
        entries.extend(ledger.news());
        (entries.len() >= 9).then_some(())
    });
    let denied: Vec<_> = entries.iter().filter(|entry| entry["class"] == "denied").collect();
    assert_eq!((entries.len(), denied.len()), (9, 8), "{entries:#?}");
    assert_eq!(denied.iter().filter(|entry| entry["path"] == "/half").count(), 1);
}

#[test]
fn half_a_head_behind_a_body_leaves_a_rejected_entry() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    let mut connection = Connection::open(agent.address());
    // One that is read: where it is not, its connection ends.
    connection.send(&Request::new("PUT", "/node/hostname").bearer(&agent.token(&["admin"])).json("{}").whole());
    assert_eq!(connection.receive("PUT").status, 400);
    connection.send(b"GET /half HTT");
    connection.close_sending_side();
    let mut entries = ledger.awaited("the change");
    if entries.len() < 2 {
        entries.extend(ledger.awaited("the half head"));
    }
    assert_eq!(entries.iter().map(gist).collect::<Vec<_>>(), [("change", "completed", 400), ("denied", "rejected", 0)]);
    assert_eq!(entries[1]["path"], "/half");
}

#[test]
fn a_tunnel_is_refused_and_what_was_to_go_through_it_is_no_request() {
    let agent = Agent::start();
    let mut ledger = Ledger::open(&agent);
    for head in [
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut connection = TcpStream::connect(agent.address()).unwrap();
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(&Request::get("/audit").whole()).unwrap();
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let entry = ledger.only();
        assert_eq!((&entry["class"], &entry["outcome"]), (&json!("denied"), &json!("completed")), "{head}: {entry}");
    }
}
