//! Bytes on a connection, whatever they are, against a whole agent.
//!
//! The input is sent as it stands, in pieces that end at each byte 0x1f; then the client says that nothing more comes. Every
//! final status on the wire is the code of one entry of the client, or counted in one, and no entry has a code beyond those. Who sends
//! anything leaves an entry. No connection stays open. What is stored holds no query.
#![no_main]

use std::thread;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nodeaudit_fuzz::{AGENT, Talk, statuses};
use serde_json::Value;

/// How long after the end of a connection its last entry may come.
const GRACE: Duration = Duration::from_secs(5);

/// How often it is looked for in any case: time passes also while the whole machine stands still.
const LOOKS: usize = 100;

fuzz_target!(|input: &[u8]| {
    let Talk { client, answer, is_whole } = AGENT.talk(input.split(|&byte| byte == 0x1f));
    let sent: Vec<u8> = input.iter().copied().filter(|&byte| byte != 0x1f).collect();
    let mut on_the_wire = statuses(&answer, is_whole);
    on_the_wire.sort_unstable();
    let has_sent = !sent.trim_ascii_start().is_empty();
    // The HTTP library gives up a connection when it finds a body malformed, now and then before it has sent the answer that it was
    // given for that very request.
    let has_chunks = sent.to_ascii_lowercase().windows(17).any(|bytes| bytes == b"transfer-encoding");
    let lost_at_most = if is_whole { usize::from(has_chunks) } else { usize::MAX };
    let deadline = Instant::now() + GRACE;
    let mut looks = 0;
    let entries = loop {
        let entries = AGENT.entries_of(client);
        looks += 1;
        // What the HTTP library refuses is recorded when the connection ends, which the client may see first.
        if is_told(&on_the_wire, codes(&entries), lost_at_most) && (!has_sent || !entries.is_empty()) {
            break entries;
        }
        assert!(
            looks < LOOKS || Instant::now() < deadline,
            "on the wire: {on_the_wire:?}, recorded: {:?}\nsent: {}\nanswered: {}\nentries: {entries:#?}",
            codes(&entries),
            sent.escape_ascii(),
            answer.escape_ascii(),
        );
        thread::yield_now();
    };
    let unanswered: u64 = entries.iter().filter(|entry| entry["response_code"] == 0).map(count).sum();
    // An empty line ends a head, and a line ends at its LF (RFC 9112, section 2.2).
    let lines = sent.split(|&byte| byte == b'\n').skip(1);
    let heads = lines.filter(|line| matches!(line, [] | [b'\r'])).count() as u64;
    assert!(unanswered <= heads + 1, "{unanswered} entries without an answer, {heads} heads: {}", sent.escape_ascii());
    for entry in &entries {
        let path = entry["path"].as_str().expect("every entry has a path");
        assert!(!path.contains(['?', '#']), "{entry}");
        assert_ne!(entry["outcome"], "panicked", "{entry}");
    }
    AGENT.forget(&entries);
});

/// Whether the recorded codes are those on the wire, and so many at most that were lost on their way.
fn is_told(on_the_wire: &[u16], mut recorded: Vec<u16>, lost_at_most: usize) -> bool {
    for code in on_the_wire {
        let Some(index) = recorded.iter().position(|recorded| recorded == code) else { return false };
        recorded.remove(index);
    }
    recorded.len() <= lost_at_most
}

/// The codes of the responses that the entries tell of.
fn codes(entries: &[Value]) -> Vec<u16> {
    let answered = entries.iter().filter(|entry| entry["response_code"] != 0);
    let mut codes: Vec<_> = answered
        .flat_map(|entry| {
            let code = entry["response_code"].as_u64().and_then(|code| u16::try_from(code).ok()).expect("a status");
            (0..count(entry)).map(move |_| code)
        })
        .collect();
    codes.sort_unstable();
    codes
}

/// How many calls an entry stands for.
fn count(entry: &Value) -> u64 {
    entry.get("count").map_or(1, |count| count.as_u64().expect("a count is a number"))
}
