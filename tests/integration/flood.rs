//! Floods: what they evict, what they write, and whether an administrator is still served.
//!
//! Long form, seconds for each flood: `ROUNDS=600 cargo test --release --test integration flood -- --nocapture`

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
use serde_json::Value;

use crate::support::{Agent, Connection, Dice, Node, Request, eventually, is_long, progress, rounds};

const FLOODERS: u64 = 32;
/// How soon 99 of 100 calls of an administrator are answered during a flood; asked in the long form only.
const ADMIN_P99: Duration = Duration::from_millis(250);
/// What a flood of refused calls may write in a second.
const WRITTEN_A_SECOND: u64 = 50_000;

/// Who floods, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    Anonymous(Sources),
    Malformed(Sources),
    Reads,
}

/// Where a flood comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sources {
    One,
    TenThousand,
}

const FLOODS: [Flood; 5] = [
    Flood::Anonymous(Sources::One),
    Flood::Anonymous(Sources::TenThousand),
    Flood::Malformed(Sources::One),
    Flood::Malformed(Sources::TenThousand),
    Flood::Reads,
];

/// A connection from one of 10,000 addresses of the loopback.
fn open_from_anywhere(address: SocketAddr, dice: &mut Dice) -> TcpStream {
    let number = u16::try_from(dice.below(10_000)).unwrap();
    let [high, low] = number.to_be_bytes();
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    // So many connections a second need ports again before the kernel has forgotten them.
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 1, high, low, 0)).unwrap();
    let SocketAddr::V4(address) = address else { panic!("tests listen on IPv4") };
    connect(socket.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    socket.into()
}

/// Ends a flood when it goes, also where an assertion fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Floods until it is told to end, and counts its calls.
fn flood(agent: &Agent, kind: Flood, ended: &AtomicBool, calls: &AtomicU64) {
    let mut dice = Dice::new();
    let request = match kind {
        Flood::Anonymous(_) => Request::get("/node/hostname"),
        Flood::Malformed(_) => Request::get("/node/hostname").header("Host", "twice"),
        Flood::Reads => Request::get("/node/uptime").bearer(&agent.token(&["read"])),
    };
    let mut kept = Connection::open(agent.address());
    while !ended.load(Ordering::Relaxed) {
        match kind {
            Flood::Anonymous(Sources::One) | Flood::Reads => drop(kept.call(&request)),
            Flood::Malformed(Sources::One) => {
                let mut connection = TcpStream::connect(agent.address()).unwrap();
                connection.write_all(&request.whole()).unwrap();
                let _ = connection.read_to_end(&mut Vec::new());
            }
            Flood::Anonymous(Sources::TenThousand) | Flood::Malformed(Sources::TenThousand) => {
                let mut connection = open_from_anywhere(agent.address(), &mut dice);
                connection.write_all(&request.whole()).unwrap();
                let _ = connection.read(&mut [0; 1024]);
            }
        }
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// What an administrator does meanwhile: reads and changes in turn. Gives how long 99 of 100 of his calls took.
fn administer(agent: &Agent, until: Instant) -> Duration {
    let token = agent.token(&["admin"]);
    let read = Request::get("/node/load").bearer(&token);
    let change = Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#).bearer(&token);
    let mut connection = Connection::open(agent.address());
    let mut took = Vec::new();
    while Instant::now() < until {
        for (request, status) in [(&read, 200), (&change, 404)] {
            let called = Instant::now();
            let answer = connection.call(request);
            assert_eq!(answer.status, status, "an administrator is served: {}", answer.text());
            took.push(called.elapsed());
        }
        // Not a flood of his own.
        thread::sleep(Duration::from_millis(20));
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// Bytes that the agent had written to the disk (`proc_pid_io(5)`).
fn written(agent: &Agent) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", agent.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

fn run(agent: &Agent, kind: Flood, seconds: u64) -> (u64, Duration) {
    let (ended, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let p99 = thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| flood(agent, kind, &ended, &calls));
        }
        let _ended = Ended(&ended);
        administer(agent, Instant::now() + Duration::from_secs(seconds))
    });
    (calls.into_inner(), p99)
}

fn class(status: &Value, name: &str, field: &str) -> u64 {
    let classes = status["classes"].as_array().unwrap();
    classes.iter().find(|class| class["class"] == name).unwrap()[field].as_u64().unwrap()
}

#[test]
fn a_flood_evicts_no_other_class_below_its_guarantee() {
    // So small that each flood fills it many times.
    let agent = Node::new("[audit]\nmax_entries = 2000\nmax_bytes = 4194304\n").start();
    let seconds = rounds(2).into();
    for kind in FLOODS {
        let before = agent.read("/audit/status");
        let (calls, p99) = run(&agent, kind, seconds);
        let flooded = if kind == Flood::Reads { "read" } else { "denied" };
        let recorded = |status: &Value| {
            class(status, flooded, "entries") + class(status, flooded, "evicted") + class(status, flooded, "coalesced")
        };
        let look = || {
            let after = agent.read("/audit/status");
            (recorded(&after) - recorded(&before) >= calls).then_some(after)
        };
        let after = match kind {
            // What the HTTP library refuses is recorded when the connection ends, which the client may see first.
            Flood::Malformed(_) => eventually(&format!("an entry or a count for each call of {kind:?}"), look),
            Flood::Anonymous(_) | Flood::Reads => {
                look().unwrap_or_else(|| panic!("{kind:?}: {calls} calls, not all recorded"))
            }
        };
        for other in ["change", "read", "denied"].into_iter().filter(|&name| name != flooded) {
            let held = class(&before, other, "entries").min(class(&after, other, "guarantee_entries"));
            assert!(class(&after, other, "entries") >= held, "{kind:?} evicted {other}: {before} {after}");
        }
        assert_eq!(after["dropped"], 0, "{after}");
        progress(&format!("{kind:?}: {} calls/s, an administrator's p99 {p99:?}", calls / seconds));
        assert!(!is_long() || p99 < ADMIN_P99, "{kind:?}: an administrator's p99 is {p99:?}");
    }
}

#[test]
fn a_flood_of_refused_calls_hardly_writes() {
    let agent = Agent::start();
    let seconds: u64 = rounds(4).into();
    for kind in FLOODS.into_iter().filter(|&kind| kind != Flood::Reads) {
        let before = written(&agent);
        let (ended, calls) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            (0..FLOODERS).for_each(|_| drop(scope.spawn(|| flood(&agent, kind, &ended, &calls))));
            thread::sleep(Duration::from_secs(seconds));
            ended.store(true, Ordering::Relaxed);
        });
        let written = (written(&agent) - before) / seconds;
        progress(&format!("{kind:?}: {} calls/s, {written} bytes written a second", calls.into_inner() / seconds));
        assert!(written < WRITTEN_A_SECOND, "{kind:?}: {written} bytes a second");
    }
}
