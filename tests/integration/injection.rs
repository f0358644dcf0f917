//! What callers write is harmless wherever it is read: in the ring, in every format, in the log, on a terminal.

use crate::support::{Agent, Connection, Request};

/// Whether a character acts on a terminal, a log, a table or the direction of reading.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[test]
fn what_a_caller_writes_acts_on_nobody_who_reads_it() {
    let agent = Agent::start();
    let token = agent.token(&["admin"]);
    let nasty = [
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "a\u{9b}31mb",
        "\u{202e}txt.exe",
        "\u{2066}x",
        "\u{61c}",
        "\u{2028}",
        "\u{85}",
    ];
    let mut calls = 0;
    let mut send = |bytes: &[u8]| {
        let mut connection = Connection::open(agent.address());
        connection.send(bytes);
        connection.close_sending_side();
        let _ = connection.try_call(&Request::get("/health"));
        calls += 1;
    };
    for text in nasty {
        let encoded = text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        send(&Request::get(&format!("/node/{encoded}")).bearer(&token).whole());
        send(&Request::get(&format!("/node/{text}")).whole());
        send(&Request::get("/health").header("User-Agent", text).whole());
        send(&Request::get("/health").header("traceparent", text).whole());
        send(&Request::new(text, "/health").whole());
        send(format!("GET /{text} HTTP/9\r\n\r\n").as_bytes());
    }
    send(b"GET /\xff\xfe\x80 HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xc0\xaf\r\n\r\n");
    send(&Request::get("/health").header("User-Agent", b"\xff\xfe\xc0\xaf\xed\xa0\x80").whole());
    send(&Request::get("/health").header("User-Agent", "=cmd|'/c calc'!A1").whole());
    send(b"GET /a%0d%0aSet-Cookie:%20x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    send(&Request::get(&format!("/{}", "y".repeat(60_000))).whole());
    send(&Request::get(&format!("/{}", "%1b".repeat(20_000))).bearer(&token).whole());

    for format in ["json", "ndjson"] {
        let response = agent.call(&Request::get(&format!("/audit/export?format={format}")).bearer(&token));
        assert_eq!(response.status, 200, "{format}");
        let text = std::str::from_utf8(&response.body).unwrap_or_else(|error| panic!("{format}: {error}"));
        let acting = text.chars().filter(|&character| character != '\n' && acts(character));
        assert_eq!(acting.collect::<String>(), "", "{format}");
    }
    let page = agent.read("/audit?limit=100");
    assert!(page["items"].as_array().unwrap().len() >= calls, "{calls} were made: {page}");
    assert!(page["items"].as_array().unwrap().iter().all(|entry| entry["path"].as_str().unwrap().len() <= 1_024));
    let (_, log) = agent.end();
    assert!(!log.chars().any(|character| character != '\n' && acts(character)), "{log:?}");
}
