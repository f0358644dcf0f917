//! Storage that fails while the agent runs: writes that end with EIO, a file system that became read-only, a disk that hangs.
//!
//! Long form: `ROUNDS=20 cargo test --release --test integration media -- --nocapture --test-threads=1`

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{
    Agent, Callers, Calls, Connection, Crash, Dice, Disk, Load, Medium, Node, Request, Response, assert_is_error,
    eventually, is_long, progress, rounds, wal_without_sync,
};

const RING: &str = "[audit]\nmax_entries = 20000\nmax_bytes = 16777216\n";
/// One that is soon full; a flood fills it with an entry a call.
const SMALL_RING: &str = "[audit]\nmax_entries = 20000\nmax_bytes = 4194304\ndenied_entries = 4096\n";
const STRICT_READS: &str = "[audit.read]\ndurability = \"strict\"\n";
const DISK_BYTES: u64 = 64 << 20;
/// They leave the machine some time for what is measured.
const CALLERS: Callers = Callers { number: 16, calls: Calls::Mixed, pause: Duration::from_millis(20) };
const ANSWERS: u64 = 100;

/// For the agent's own work on a machine that has more to do.
const HEAD_ROOM: Duration = Duration::from_secs(if cfg!(debug_assertions) { 2 } else { 1 });

/// Nobody waits longer for an answer, whatever the storage does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2).saturating_add(HEAD_ROOM);

/// Changes are accepted again so soon after the fault has ended.
const RESUMED_WITHIN: Duration = Duration::from_secs(1).saturating_add(HEAD_ROOM);

/// How long the disk hangs.
const HANG: Duration = Duration::from_secs(5);

/// More calls than the agent keeps entries in memory for.
const FLOOD: u32 = 5_000;

/// What a flood of calls may add to the agent's memory when all that it may keep is kept already.
const GROWTH_KIB: u64 = 4 << 10;

/// A call, which must be answered in time.
fn call(agent: &Agent, request: &Request) -> Response {
    let called = Instant::now();
    let response = agent.call(request);
    let took = called.elapsed();
    assert!(!is_long() || took < ANSWERED_WITHIN, "answered after {took:?}: {response:?}");
    response
}

fn change(agent: &Agent) -> Request {
    Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#).bearer(&agent.token(&["admin"]))
}

fn read(agent: &Agent) -> Request {
    Request::get("/node/load").bearer(&agent.token(&["admin"]))
}

/// Waits until the agent knows that it can't store, and checks what it answers then.
fn assert_refuses(agent: &Agent, read_status: u16) {
    let ready = Request::get("/health/ready");
    eventually("a store that fails", || (call(agent, &ready).status == 503).then_some(()));
    let refusal = assert_is_error(&call(agent, &change(agent)), 503);
    assert!(refusal.contains("can't be recorded"), "refused up front: {refusal}");
    assert_eq!(call(agent, &read(agent)).status, read_status);
    assert_eq!(call(agent, &Request::get("/health")).status, 200);
    let auditor = agent.token(&["auditor"]);
    // The ring itself can be read unless the disk does not answer at all.
    let status = call(agent, &Request::get("/audit/status").bearer(&auditor));
    let page = call(agent, &Request::get("/audit?limit=100").bearer(&auditor));
    match status.status {
        200 => assert_eq!(status.json()["health"], "failing", "{}", status.text()),
        _ => assert!(assert_is_error(&status, 503).contains("in time")),
    }
    assert!(page.status == 200 || assert_is_error(&page, 503).contains("in time"));
}

/// Waits until changes are accepted again.
fn assert_resumes(agent: &Agent) {
    let ended = Instant::now();
    let change = change(agent);
    eventually("a change that is accepted", || (call(agent, &change).status == 404).then_some(()));
    let resumed = ended.elapsed();
    assert!(!is_long() || resumed < RESUMED_WITHIN, "resumed after {resumed:?}");
    assert_eq!(call(agent, &Request::get("/health/ready")).status, 200);
}

/// Has every block of the ring's files written once. An ext4 without a journal forgets what it could not write of its own accounts:
/// how large a file is, and which of its blocks were written; and one that is just becoming read-only can say that a block is synced whose
/// first write it then forgets. It is the agent that is tested.
fn fill_ring(agent: &Agent) {
    let mut connection = Connection::open(agent.address());
    // With nothing in common: they would be as small as any others.
    let mut paths = (0..).map(|number| format!("/{number:01000}"));
    while agent.read("/audit/status")["evicted"] == 0 {
        paths.by_ref().take(500).for_each(|path| drop(connection.call(&Request::get(&path))));
    }
}

/// Calls of every kind while the store fails: what they leave behind has an end.
fn assert_memory_is_bounded(agent: &Agent) {
    let requests = [change(agent), read(agent), Request::get("/health"), Request::get("/no/such/path")];
    let flood = || {
        // A refusal of a change closes its connection.
        (0..FLOOD).for_each(|number| drop(agent.call(&requests[number as usize % requests.len()])));
        resident_kib(agent)
    };
    let (filled, flooded) = (flood(), flood());
    assert!(flooded < filled + GROWTH_KIB, "{FLOOD} calls took the memory from {filled} to {flooded} KiB");
}

fn resident_kib(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Has writes fail under load, and once more when the disk is taken away. Gives how many of the answered calls have no entry then.
/// `during` looks at the agent while writes fail, `after` when they don't any more.
fn lost_to_failing_writes(node: Node, during: impl FnOnce(&Agent), after: impl FnOnce(&Agent)) -> Option<usize> {
    let mut disk = Disk::new(&node, Medium::Failing, DISK_BYTES)?;
    let agent = node.start();
    fill_ring(&agent);
    let load = Load::start(&agent, "first", CALLERS);
    load.await_answers(ANSWERS);
    disk.set_failing(true);
    during(&agent);
    disk.set_failing(false);
    after(&agent);
    let mut answered = load.end();

    let load = Load::start(&agent, "second", CALLERS);
    load.await_answers(ANSWERS);
    disk.set_failing(true);
    // Answers that leave from now on would be answers of a store that can't write.
    thread::sleep(Duration::from_millis(200));
    let (node, _) = agent.stop(Signal::SIGKILL);
    answered.extend(load.end());
    // What only the page cache holds goes with it.
    disk.power_off(&mut Dice::new());
    disk.set_failing(false);
    disk.power_on();
    Some(Crash::at(&node, answered).recover(node).missing.len())
}

#[test]
fn while_writes_fail_calls_are_refused_and_nothing_that_was_answered_is_lost() {
    for round in 1..=rounds(1) {
        let during = |agent: &Agent| {
            assert_refuses(agent, 503);
            assert_memory_is_bounded(agent);
        };
        let node = Node::new(&format!("{SMALL_RING}{STRICT_READS}"));
        let Some(lost) = lost_to_failing_writes(node, during, assert_resumes) else { return };
        assert_eq!(lost, 0, "answered, and not on the disk");
        progress(&format!("fault {round} of {}: nothing lost", rounds(1)));
    }
}

#[test]
fn while_writes_fail_reads_go_on_where_the_operator_says_so() {
    let node = Node::new(&format!("{RING}on_store_failure = \"serve\"\n"));
    let Some(disk) = Disk::new(&node, Medium::Failing, DISK_BYTES) else { return };
    let agent = node.start();
    assert_eq!(call(&agent, &change(&agent)).status, 404);
    disk.set_failing(true);
    assert_eq!(call(&agent, &change(&agent)).status, 503);
    let refused = agent.call(&change(&agent));
    assert_refuses(&agent, 200);
    assert_eq!(agent.read("/audit/status")["dropped"], 0, "there is room in memory");
    assert_memory_is_bounded(&agent);
    disk.set_failing(false);
    assert_resumes(&agent);
    assert_eq!(agent.entry_of(&refused)["response_code"], 503, "it is stored when that can be done");
    let status = agent.read("/audit/status");
    assert!(status["dropped"].as_u64() > Some(0), "what memory could not hold is counted: {status}");
    assert_eq!(status["health"], "ok", "{status}");
    drop(agent);
}

#[test]
fn control_an_agent_that_ignores_the_sync_loses_what_it_answers_while_writes_fail() {
    let node = Node::new(&format!("{SMALL_RING}{STRICT_READS}"));
    let Some(library) = wal_without_sync(&node) else { return };
    let Some(lost) = lost_to_failing_writes(node.variable("LD_PRELOAD", library), |_| (), |_| ()) else { return };
    assert!(lost > 0, "the rig does not see that writes failed");
}

/// The kernel lets nobody write to that file system any more until it was unmounted, so the fault ends with a new mount and
/// a new start of the agent, as after `fsck`.
#[test]
fn on_a_file_system_that_became_read_only_calls_are_refused_and_nothing_that_was_answered_is_lost() {
    let node = Node::new(&format!("{SMALL_RING}{STRICT_READS}"));
    let Some(mut disk) = Disk::new(&node, Medium::Sound, DISK_BYTES) else { return };
    let agent = node.start();
    fill_ring(&agent);
    let load = Load::start(&agent, "load", CALLERS);
    load.await_answers(ANSWERS);
    disk.make_read_only();
    assert_refuses(&agent, 503);
    let (node, _) = agent.stop(Signal::SIGKILL);
    let answered = load.end();
    disk.power_off(&mut Dice::new());
    disk.power_on();
    let recovery = Crash::at(&node, answered).recover(node);
    assert!(recovery.missing.is_empty(), "{:?}", recovery.missing);
    assert_resumes(&recovery.agent);
    drop(recovery);
}

#[test]
fn while_storage_hangs_everyone_is_answered_and_nothing_that_was_answered_is_lost() {
    let node = Node::new(&format!("{RING}{STRICT_READS}"));
    let Some(mut disk) = Disk::new(&node, Medium::VolatileCache, DISK_BYTES) else { return };
    let mut dice = Dice::new();
    let mut agent = node.start();
    let rounds = rounds(1);
    for round in 1..=rounds {
        let load = Load::start(&agent, &round.to_string(), CALLERS);
        load.await_answers(ANSWERS);
        dice.wait(Duration::from_millis(100));
        let began = Instant::now();
        let held = disk.hang();
        assert_refuses(&agent, 503);
        thread::sleep(HANG.saturating_sub(began.elapsed()));
        drop(held);
        assert_resumes(&agent);
        disk.cut();
        let (node, _) = agent.stop(Signal::SIGKILL);
        let (slowest, answered) = (load.slowest(), load.end());
        assert!(!is_long() || slowest < ANSWERED_WITHIN, "answered after {slowest:?}");
        disk.power_off(&mut dice);
        disk.power_on();
        let recovery = Crash::at(&node, answered).recover(node);
        assert!(recovery.missing.is_empty(), "hang {round}: {:?}", recovery.missing);
        progress(&format!("hang {round} of {rounds}: nothing lost, the slowest answer took {slowest:?}"));
        agent = recovery.agent;
    }
    drop(agent);
}

#[test]
fn control_an_agent_that_hangs_itself_answers_late() {
    let agent = Node::new(RING).start();
    let load = Load::start(&agent, "load", CALLERS);
    load.await_answers(ANSWERS);
    let pid = Pid::from_raw(agent.pid().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    thread::sleep(HANG);
    kill(pid, Signal::SIGCONT).unwrap();
    eventually("a late answer", || (load.slowest() >= ANSWERED_WITHIN).then_some(()));
    load.end();
}
