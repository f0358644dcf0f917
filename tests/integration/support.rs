//! A real agent on a free port, what tests say to it, and what they read in its ring.

mod agent;
mod crash;
mod dice;
mod disk;
mod events;
mod http;
mod issuer;
mod killed;
mod ledger;
mod load;
mod pulling;
mod ring_file;
mod store;
mod stranger;
mod tls;
mod trace;

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use agent::{Agent, BINARY, Node, sign};
pub(crate) use crash::Crash;
pub(crate) use dice::Dice;
pub(crate) use disk::{Disk, Medium};
pub(crate) use events::Events;
pub(crate) use http::{Connection, Request, Response, assert_is_error};
pub(crate) use issuer::{AUDIENCE, ISSUER, Issuer, KIDS};
pub(crate) use killed::Killed;
pub(crate) use ledger::Ledger;
pub(crate) use load::{Answered, Callers, Calls, Load, missing};
pub(crate) use pulling::{Pulling, told};
pub(crate) use ring_file::RingFile;
pub(crate) use store::strict_store;
pub(crate) use stranger::answering;
pub(crate) use tls::{Authority, Pair, TlsClient};
pub(crate) use trace::{STRACE, SystemCall, Trace, traced};

/// Waits for what happens in its own time, such as the agent's noticing that a client has gone. The one place that waits.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not seen in two minutes: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Begins a change and leaves it in the air: half of its body is missing. Returns when its intent is on stable storage.
pub(crate) fn begin_change(agent: &Agent) -> Connection {
    let request = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "node-7"}"#);
    let mut connection = Connection::open(agent.address());
    connection.send(&request.bearer(&agent.token(&["admin"])).head());
    connection.send(br#"{"hostname": "#);
    eventually("the intent in the ring file", || (open_intents(agent.node()) == 1).then_some(()));
    connection
}

/// How many changes the ring file knows to have begun and not to have ended.
pub(crate) fn open_intents(node: &Node) -> u64 {
    let ring = node.state_dir().join(nodeaudit::audit::ring::FILE_NAME);
    let ring = rusqlite::Connection::open_with_flags(ring, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    ring.busy_timeout(Duration::from_secs(5)).unwrap();
    ring.query_row("SELECT count(*) FROM intent", [], |row| row.get(0)).unwrap()
}

/// The binary with these arguments, and nothing of the environment that could configure it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Runs a command of the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A library that leaves out the sync of the WAL at a commit, as `synchronous=NORMAL` does.
pub(crate) fn wal_without_sync(node: &Node) -> Option<std::path::PathBuf> {
    can_isolate(&["/usr/bin/cc"]).then(|| {
        let library = node.folder().join("wal_without_sync.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wal_without_sync.c");
        let built =
            Command::new("/usr/bin/cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.unwrap().success());
        library
    })
}

/// How often a test does what it does: as often as `ROUNDS` says in its long form, a few times in its short form.
pub(crate) fn rounds(short: u32) -> u32 {
    std::env::var("ROUNDS").map_or(short, |rounds| rounds.parse().expect("ROUNDS is a number"))
}

/// Whether this is the long form of a test, which has the machine for itself.
pub(crate) fn is_long() -> bool {
    std::env::var_os("ROUNDS").is_some()
}

/// Says how far the long form of a test is.
pub(crate) fn progress(line: &str) {
    if is_long() {
        eprintln!("{line}");
    }
}

/// Seconds from 1970.
pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Says that a test can't run here, and why: loudly, past the test harness, which keeps what a test prints to itself.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// Whether a test that needs root and these programs can run here. It says so loudly where it can't.
pub(crate) fn can_isolate(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !std::path::Path::new(program).exists()).collect();
    let root = nix::unistd::geteuid().is_root();
    if root && missing.is_empty() {
        return true;
    }
    skipped(&format!("this test needs root (here: {root}) and {missing:?}"));
    false
}
