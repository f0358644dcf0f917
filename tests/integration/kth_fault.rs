//! The k-th call to the kernel fails: once, from then on, or as the last thing that the agent does; for k = 1, 2, ... until a run passes
//! untouched. strace(1) gives the error in the kernel's place, on the ring's files alone.
//!
//! The short form tries some k and some errors, the long form (`ROUNDS=1`) each.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Agent, Connection, Node, Request, Response, STRACE, can_isolate, eventually, is_long, progress};

/// Small, so that its WAL is moved into the database every few changes.
const CONFIG: &str = "[audit]\nmax_entries = 500\nmax_bytes = 1048576\n";

/// The longest that a refusal may take: two seconds, and what a busy machine adds.
const REFUSED_WITHIN: Duration = Duration::from_secs(4);

/// The files that fail. The log, the libraries and the connections do not.
fn files(state_dir: &Path) -> Vec<String> {
    let names = [
        "",
        "ring.sqlite",
        "ring.sqlite-wal",
        "ring.sqlite-shm",
        "ring.sqlite-journal",
        "ring.sqlite.new",
        "ring.sqlite.new-journal",
        "seq.floor",
        "seq.floor.new",
    ];
    let path = |name| match name {
        "" => state_dir.to_owned(),
        name => state_dir.join(name),
    };
    names.into_iter().flat_map(|name| ["-P".to_owned(), path(name).display().to_string()]).collect()
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug)]
struct Fault {
    call: &'static str,
    /// As strace has it, such as `error=EIO`.
    result: &'static str,
    /// The first of them that goes wrong, of each thread.
    k: u32,
    lasts: bool,
}

impl Fault {
    /// strace with this fault, which writes what it did to `record`.
    fn strace(self, state_dir: &Path, record: &Path) -> Vec<String> {
        let Self { call, result, k, lasts } = self;
        let when = if lasts { format!("{k}+") } else { k.to_string() };
        let inject = format!("inject={call}:{result}:when={when}");
        let mut line = vec![STRACE.to_owned(), "-f".to_owned()];
        line.extend([
            "-o".to_owned(),
            record.display().to_string(),
            format!("--trace={call}"),
            "-e".to_owned(),
            inject,
        ]);
        line.extend(files(state_dir));
        line
    }
}

/// Whether strace has had anything go wrong. Of a signal it does not say so.
fn has_struck(record: &Path) -> bool {
    let record = fs::read(record).unwrap_or_default();
    let text = String::from_utf8_lossy(&record);
    text.contains("(INJECTED)")
}

/// The next k after this one.
fn after(k: u32) -> u32 {
    if is_long() { k + 1 } else { 3 * k }
}

fn change(agent: &Agent) -> Request {
    Request::new("POST", "/node/power/reboot").bearer(&agent.token(&["admin"]))
}

/// Whether a change was recorded before and after, as far as its answer says. `--dev` refuses all of them after that.
fn is_recorded(response: &Response) -> bool {
    let text = response.text();
    !text.contains("can't be recorded") && !text.contains("not on stable storage")
}

/// Makes changes, and gives the IDs of those that were recorded. None may take long, whatever fails.
fn changes(agent: &Agent, number: u32) -> Vec<String> {
    let request = change(agent);
    let mut ids = Vec::new();
    for _ in 0..number {
        let since = Instant::now();
        let response = Connection::try_open(agent.address()).and_then(|mut calls| calls.try_call(&request));
        // The agent may be killed at any moment.
        let Ok(response) = response else { break };
        assert!(!is_long() || since.elapsed() < REFUSED_WITHIN, "a change took {:?}", since.elapsed());
        if is_recorded(&response) {
            ids.push(response.audit_id().to_owned());
        }
    }
    ids
}

#[track_caller]
fn assert_all_there(agent: &Agent, ids: &[String], what: &str) {
    let token = agent.token(&["auditor"]);
    let mut connection = Connection::open(agent.address());
    for id in ids {
        let response = connection.call(&Request::get(&format!("/audit/{id}")).bearer(&token));
        assert_eq!(response.status, 200, "{what}: an acknowledged entry is missing: {}", response.text());
    }
}

/// A node with the state that a killed agent left, or with none.
fn node(original: Option<&Node>) -> Node {
    let node = Node::new(CONFIG);
    if let Some(original) = original {
        let copied = Command::new("/bin/cp").arg("-a").args([original.state_dir(), node.state_dir()]).status();
        assert!(copied.unwrap().success());
    }
    node
}

/// Faults from the first call of the agent on: it starts or says why not, and the next start has everything.
fn at_the_start(
    call: &'static str,
    result: &'static str,
    lasts: bool,
    known: &[String],
    original: Option<&Node>,
) -> u32 {
    let mut k = 1;
    loop {
        let node = node(original);
        let record = node.folder().join("faults");
        let fault = Fault { call, result, k, lasts };
        let what = format!("{fault:?}");
        let line = fault.strace(&node.state_dir(), &record);
        let mut acknowledged = known.to_vec();
        let is_dead;
        let (node, log) = match node.launched(&line).try_start() {
            Ok(agent) => {
                acknowledged.extend(changes(&agent, 4));
                is_dead = Connection::try_open(agent.address()).is_err();
                agent.end()
            }
            Err((node, log)) => {
                let is_clear = log.lines().any(|line| line.starts_with("nodeaudit: "));
                assert!(is_clear || result.contains("KILL"), "{what}: no clear error: {log}");
                is_dead = true;
                (node, log)
            }
        };
        assert!(!log.contains("panicked"), "{what}: {log}");
        let struck = is_dead || has_struck(&record);
        let agent = node.alone().start();
        assert_all_there(&agent, &acknowledged, &what);
        let status = agent.read("/audit/status");
        assert_eq!((status["damaged_files"].as_u64(), status["lost"].as_u64()), (Some(0), Some(0)), "{what}: {status}");
        assert_eq!(changes(&agent, 1).len(), 1, "{what}: it records again");
        if !struck {
            return k;
        }
        k = after(k);
    }
}

const CALLS: [&str; 8] = ["pwrite64", "fdatasync", "fsync", "ftruncate", "openat", "fallocate", "unlink", "rename"];

#[test]
fn a_fault_at_the_start_ends_in_a_clear_error_or_none_and_loses_nothing() {
    if !can_isolate(&[STRACE]) {
        return;
    }
    let agent = Node::new(CONFIG).start();
    let known = changes(&agent, 25);
    let (original, _) = agent.stop(Signal::SIGKILL);
    let results = [("signal=SIGKILL", false), ("error=EIO", false), ("error=ENOSPC", true)];
    for (number, call) in CALLS.into_iter().enumerate() {
        let of_short_form = number % results.len();
        for &(result, lasts) in if is_long() { &results[..] } else { &results[of_short_form..=of_short_form] } {
            let fresh = at_the_start(call, result, lasts, &[], None);
            let again = at_the_start(call, result, lasts, &known, Some(&original));
            progress(&format!(
                "{call} {result}: untouched from {fresh} on in a first start, from {again} on in another"
            ));
        }
    }
}

/// A running agent whose calls go wrong until this ends.
struct Attached {
    strace: Child,
    record: PathBuf,
    /// Open, because strace tells of each new thread.
    _errors: BufReader<ChildStderr>,
}

impl Attached {
    fn to(agent: &Agent, fault: Fault) -> Self {
        let record = agent.node().folder().join("faults");
        let line = fault.strace(&agent.node().state_dir(), &record);
        let mut strace = Command::new(&line[0])
            .args(&line[1..])
            .args(["-p", &agent.process().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut told, mut errors) = (String::new(), BufReader::new(strace.stderr.take().unwrap()));
        errors.read_line(&mut told).unwrap();
        assert!(told.contains("attached"), "{told}");
        Self { strace, record, _errors: errors }
    }

    /// Lets the agent go, and tells whether anything went wrong.
    fn end(mut self) -> bool {
        let _ = kill(Pid::from_raw(self.strace.id().try_into().unwrap()), Signal::SIGTERM);
        let since = Instant::now();
        while self.strace.try_wait().unwrap().is_none() {
            // One that has killed the agent may wait for ever for its threads.
            if since.elapsed() > Duration::from_secs(1) {
                self.strace.kill().unwrap();
            }
            std::thread::yield_now();
        }
        has_struck(&self.record)
    }
}

/// Faults of a running agent: it refuses while they last, and goes on when they end.
fn while_it_runs(agent: &Agent, call: &'static str, result: &'static str, lasts: bool) -> (u32, Vec<String>) {
    let (mut k, mut acknowledged) = (1, Vec::new());
    let ready = || agent.call(&Request::get("/health/ready")).status;
    loop {
        let fault = Fault { call, result, k, lasts };
        let attached = Attached::to(agent, fault);
        let recorded = changes(agent, 4);
        if lasts && recorded.len() < 4 {
            assert_eq!(ready(), 503, "{fault:?}");
            assert!(changes(agent, 1).is_empty(), "{fault:?}: refused up front");
            assert_eq!(agent.call(&Request::get("/health")).status, 200, "{fault:?}");
            let since = Instant::now();
            let page = agent.call(&Request::get("/audit?limit=5").bearer(&agent.token(&["admin"])));
            assert!([200, 503].contains(&page.status), "{fault:?}: {page:?}");
            assert!(!is_long() || since.elapsed() < REFUSED_WITHIN, "{fault:?}: {page:?}");
        }
        acknowledged.extend(recorded);
        let struck = attached.end();
        let since = Instant::now();
        eventually("an agent that is ready again", || (ready() == 200).then_some(()));
        assert!(
            !is_long() || since.elapsed() < Duration::from_secs(3),
            "{fault:?}: ready again after {:?}",
            since.elapsed()
        );
        // A relaxed entry that met the fault may be what the agent is trying again just now.
        acknowledged.push(eventually("an agent that records again", || changes(agent, 1).pop()));
        if !struck {
            return (k, acknowledged);
        }
        k = after(k);
    }
}

#[test]
fn a_fault_of_a_running_agent_loses_nothing_and_is_over_when_it_ends() {
    if !can_isolate(&[STRACE]) {
        return;
    }
    let agent = Node::new(CONFIG).start();
    let before = agent.read("/audit/status");
    let mut acknowledged = Vec::new();
    for call in ["pwrite64", "fdatasync"] {
        for (result, lasts) in
            [("error=EIO", false), ("error=EIO", true), ("error=ENOSPC", false), ("error=ENOSPC", true)]
        {
            let (k, ids) = while_it_runs(&agent, call, result, lasts);
            progress(&format!("{call} {result}, lasts: {lasts}: untouched from {k} on, {} recorded", ids.len()));
            // The ring holds some hundred; what is older has been evicted by now.
            acknowledged.extend(ids);
            let newest = acknowledged.len().saturating_sub(100);
            assert_all_there(&agent, &acknowledged[newest..], call);
        }
    }
    let (node, log) = agent.stop(Signal::SIGKILL);
    assert!(!log.contains("panicked"), "{log}");
    let agent = node.start();
    assert_all_there(&agent, &acknowledged[acknowledged.len().saturating_sub(100)..], "after a restart");
    let status = agent.read("/audit/status");
    assert_eq!(status["epoch"], before["epoch"], "no fault damages the ring: {status}");
}

#[test]
fn an_agent_that_dies_at_its_kth_write_or_sync_has_stored_what_it_answered() {
    if !can_isolate(&[STRACE]) {
        return;
    }
    for call in ["pwrite64", "fdatasync"] {
        let mut agent = Node::new(CONFIG).start();
        let (mut k, mut acknowledged) = (1, Vec::new());
        loop {
            let attached = Attached::to(&agent, Fault { call, result: "signal=SIGKILL", k, lasts: false });
            acknowledged.extend(changes(&agent, 6));
            let is_dead = Connection::try_open(agent.address()).is_err();
            attached.end();
            agent = agent.end().0.start();
            assert_all_there(&agent, &acknowledged[acknowledged.len().saturating_sub(100)..], &format!("{call} {k}"));
            if !is_dead {
                progress(&format!("{call}: alive from {k} on"));
                break;
            }
            k = after(k);
        }
    }
}

#[test]
fn control_writes_that_are_swallowed_are_seen_to_be_missing() {
    if !can_isolate(&[STRACE]) {
        return;
    }
    let agent = Node::new(CONFIG).start();
    let kept = changes(&agent, 3);
    // The kernel says that it has written a page, and has not.
    let swallowed = Attached::to(&agent, Fault { call: "pwrite64", result: "retval=4096", k: 1, lasts: true });
    let lost = changes(&agent, 1);
    assert_eq!((kept.len(), lost.len()), (3, 1), "all of them were answered as if they were stored");
    let (node, _) = agent.stop(Signal::SIGKILL);
    swallowed.end();
    let agent = node.start();
    assert_all_there(&agent, &kept, "what was written");
    let missing = agent.call(&Request::get(&format!("/audit/{}", lost[0])).bearer(&agent.token(&["admin"])));
    assert_eq!(missing.status, 404, "the control: {}", missing.text());
}

#[test]
fn a_read_that_hangs_is_answered_for_in_time_and_delays_nothing_else() {
    if !can_isolate(&[STRACE]) {
        return;
    }
    let agent = Node::new(CONFIG).start();
    changes(&agent, 100);
    let page = Request::get("/audit?limit=100").bearer(&agent.token(&["admin"]));
    let hung = Attached::to(&agent, Fault { call: "pread64", result: "delay_enter=8000000", k: 1, lasts: true });
    let read = || {
        let since = Instant::now();
        let response = agent.call(&page);
        (response.status, since.elapsed())
    };
    // More than may read at a time: the others wait for their turn, and no longer.
    let reads: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..12).map(|_| scope.spawn(read)).collect();
        let since = Instant::now();
        assert_eq!(agent.call(&Request::get("/health")).status, 200);
        assert_eq!(agent.call(&Request::get("/node/load").bearer(&agent.token(&["admin"]))).status, 200);
        assert!(!is_long() || since.elapsed() < Duration::from_secs(2), "others wait with them: {:?}", since.elapsed());
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert!(!is_long() || reads.iter().all(|(_, took)| *took < REFUSED_WITHIN), "{reads:?}");
    assert!(reads.iter().any(|(status, _)| *status == 503), "the control: something hung: {reads:?}");
    hung.end();
    eventually("a page", || (agent.call(&page).status == 200).then_some(()));
}
