//! Entries and their counts are the calls, exactly: under resets, panics and requests that are none.
//!
//! Long form, in a release build: `ROUNDS=10000 cargo test --release --test integration exact -- --nocapture` for ten times as many
//! malformed requests as resets.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::support::{Agent, Dice, Node, Request, eventually, progress, rounds};

const CALLERS: u64 = 16;

/// Calls of all classes since the ring's first: those that have entries, those that are counted in others, those that were lost.
fn recorded(agent: &Agent) -> u64 {
    let status = agent.read("/audit/status");
    let told = |name: &str| status[name].as_u64().unwrap();
    told("entries") + told("evicted") + told("coalesced") + told("dropped")
}

/// Has so many calls made by callers that each have dice of their own, and checks that as many are recorded.
fn assert_all_recorded(agent: &Agent, calls: u64, call: impl Fn(&Agent, &mut Dice) + Sync) {
    let before = recorded(agent);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let call = &call;
            scope.spawn(move || {
                let mut dice = Dice::new();
                let share = calls / CALLERS + u64::from(caller < calls % CALLERS);
                (0..share).for_each(|_| call(agent, &mut dice));
            });
        }
    });
    // Each look is a call: it shows itself only to the next one.
    let mut looks = 1;
    let seen = eventually("an agent that has noticed the end of every connection", || {
        let seen = recorded(agent) - before - looks;
        looks += 1;
        (seen >= calls).then_some(seen)
    });
    assert_eq!(seen, calls, "entries and counts against calls");
    let held = agent.read("/audit/status");
    progress(&format!(
        "{calls} calls, {} entries, {} coalesced, dropped {}",
        held["entries"], held["coalesced"], held["dropped"]
    ));
    assert_eq!(held["dropped"], 0, "{held}");
}

#[test]
fn clients_that_reset_at_any_moment_leave_an_entry_for_each_call() {
    let agent = Agent::start();
    let token = agent.token(&["admin"]);
    let requests = [
        Request::get("/node/load").bearer(&token).whole(),
        Request::get("/audit/export?format=ndjson").bearer(&token).whole(),
        Request::get("/node/load").whole(),
        Request::new("PUT", "/node/hostname").bearer(&token).json("{\"hostname\": \"node-7\"}").whole(),
    ];
    assert_all_recorded(&agent, rounds(400).into(), |agent, dice| {
        let request = dice.pick(&requests);
        let sent = 1 + usize::try_from(dice.below(request.len() as u64)).unwrap();
        let mut connection = TcpStream::connect(agent.address()).unwrap();
        setsockopt(&connection, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        connection.write_all(&request[..sent]).unwrap();
        // Sometimes at once, sometimes in the middle of the answer, sometimes behind it.
        if dice.below(2) == 1 {
            let patience = Duration::from_micros(1 + dice.below(3_000));
            connection.set_read_timeout(Some(patience)).unwrap();
            let _ = connection.read(&mut [0; 64]);
        }
    });
}

#[test]
fn requests_that_are_none_leave_an_entry_each_or_are_counted_in_one() {
    let agent = Node::new("audit.denied_entries = 64\n").start();
    let heads = [
        "\u{0}\u{1}\u{16}\u{3}\u{1}",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /h\u{e9}alth HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /audit HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST /audit HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nX",
        "GET /health HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
        "G\tT / HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS",
    ];
    assert_all_recorded(&agent, 10 * u64::from(rounds(300)), |agent, dice| {
        let mut bytes = dice.pick(&heads).as_bytes().to_vec();
        // A byte in the first line becomes another one, which ends neither the line nor the request.
        let first = &mut bytes[..5];
        let at = usize::try_from(dice.below(first.len() as u64)).unwrap();
        first[at] = u8::try_from(1 + dice.below(9)).unwrap();
        let mut connection = TcpStream::connect(agent.address()).unwrap();
        connection.write_all(&bytes).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let _ = connection.read_to_end(&mut Vec::new());
    });
    let held: Value = agent.read("/audit?limit=100");
    assert!(
        held["items"].as_array().unwrap().iter().any(|entry| entry["count"].as_u64() > Some(1)),
        "a flood is coalesced"
    );
}
