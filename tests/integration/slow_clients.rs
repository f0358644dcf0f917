//! Clients that hold connections and do nothing with them: each is freed, its call recorded, and others are served meanwhile.
//!
//! Long form, with the numbers and the deadlines of production: `ROUNDS=1 cargo test --release --test integration slow_clients`

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};

use crate::support::{Agent, Node, Request, eventually, is_long, progress};

/// The longest that one of them may keep its connection, and that an administrator may wait; asked in the long form only.
const FREED: Duration = Duration::from_secs(15);
const SERVED: Duration = Duration::from_secs(1);

/// What they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Idle,
    HalfHead,
    StalledBody,
    NeverReads,
}

const KINDS: [(Slow, usize); 4] =
    [(Slow::Idle, 1_000), (Slow::HalfHead, 500), (Slow::StalledBody, 200), (Slow::NeverReads, 200)];

/// A connection of one of 200 peers, which takes in little.
fn open(agent: &Agent, number: usize) -> TcpStream {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &4_096).unwrap();
    let last = u8::try_from(number % 200).unwrap() + 2;
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 7, last, 0)).unwrap();
    let SocketAddr::V4(address) = agent.address() else { panic!("tests listen on IPv4") };
    connect(socket.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    socket.into()
}

/// Connections of the slow peers that the agent holds (`proc_pid_net(5)`): those that the kernel alone is still closing have no inode.
fn held_by(agent: &Agent) -> usize {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = format!(":{:04X}", agent.address().port());
    let is_held = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // Addresses are written as the machine has them in memory.
        fields[1].ends_with(&port) && fields[2][2..].starts_with("07007F:") && fields[9] != "0"
    };
    table.lines().skip(1).filter(is_held).count()
}

/// Calls of the slow peers that are recorded.
fn recorded(agent: &Agent) -> u64 {
    let page = agent.read("/audit/status");
    let denied = page["classes"].as_array().unwrap().iter().find(|class| class["class"] == "denied").unwrap().clone();
    ["entries", "evicted", "coalesced"].iter().map(|name| denied[name].as_u64().unwrap()).sum()
}

#[test]
fn slow_clients_are_freed_and_recorded_and_others_served() {
    let short =
        "[server]\nclient_timeout_ms = 2000\nbody_timeout_ms = 2000\nwrite_timeout_ms = 2000\nkeep_alive_s = 2\n";
    let agent = Node::new(if is_long() { "" } else { short }).start();
    let admin = Request::get("/node/load").bearer(&agent.token(&["admin"]));
    let read = Request::get("/openapi.json").whole().repeat(40);
    let before = recorded(&agent);
    let (mut held, mut slowest) = (Vec::new(), Duration::ZERO);
    let begin = Instant::now();
    for (kind, number) in KINDS {
        for number in 0..if is_long() { number } else { number / 20 } {
            let mut stream = open(&agent, number);
            let _ = match kind {
                Slow::Idle => Ok(()),
                Slow::HalfHead => stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nX-"),
                Slow::StalledBody => {
                    stream.write_all(b"PUT /node/hostname HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
                }
                Slow::NeverReads => stream.write_all(&read),
            };
            held.push(stream);
        }
        let called = Instant::now();
        assert_eq!(agent.call(&admin).status, 200);
        slowest = slowest.max(called.elapsed());
    }
    assert!(held_by(&agent) > 0, "they are slow");
    let opened = begin.elapsed();
    eventually("all connections freed", || {
        let called = Instant::now();
        assert_eq!(agent.call(&admin).status, 200, "an administrator is served");
        slowest = slowest.max(called.elapsed());
        (held_by(&agent) == 0).then_some(())
    });
    let freed = begin.elapsed().saturating_sub(opened);
    progress(&format!(
        "{} connections freed in {freed:?} at most, an administrator waited {slowest:?} at most",
        held.len()
    ));
    assert!(!is_long() || freed < FREED, "{freed:?}");
    assert!(!is_long() || slowest < SERVED, "{slowest:?}");
    assert!(recorded(&agent) - before >= held.len() as u64, "each of them has left an entry");
}
