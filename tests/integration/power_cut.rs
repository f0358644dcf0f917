//! Power cuts under load, on a disk that loses what was not flushed.
//!
//! Short form: with all other tests. Long form, such as 200 cuts with progress:
//! `ROUNDS=200 cargo test --release --test integration power_cut -- --nocapture --test-threads=1`

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Agent, Answered, Callers, Calls, Crash, Dice, Disk, Load, Medium, Node, missing, progress, rounds, wal_without_sync,
};

const STRICT: &str = "[audit]\nmax_entries = 20000\nmax_bytes = 16777216\n[audit.read]\ndurability = \"strict\"\n";
const CALLERS: Callers = Callers { number: 32, calls: Calls::Mixed, pause: Duration::ZERO };
const DISK_BYTES: u64 = 64 << 20;

/// So many calls are answered before the power may go.
const ANSWERS: u64 = 100;

/// The power goes at any moment of this time.
const MOMENTS: Duration = Duration::from_millis(400);

/// The time of a start with recovery, and a little of what comes after it.
const RECOVERY: Duration = Duration::from_millis(150);

/// What a power cut may take from a relaxed class in these tests, and what it may take of a class that breaks its word.
const WINDOW: Duration = Duration::from_millis(200);
const LONG_WINDOW: Duration = Duration::from_secs(10);

/// One flush of the disk under load, on a machine that has more to do.
const FLUSH: Duration = Duration::from_millis(500);

/// Cuts the power under load, and brings it back.
fn cut(agent: Agent, load: Load, disk: &mut Disk, dice: &mut Dice) -> (Node, Vec<Answered>, Instant) {
    let moment = disk.cut();
    let (node, _) = agent.stop(Signal::SIGKILL);
    let answered = load.end();
    disk.power_off(dice);
    disk.power_on();
    (node, answered, moment)
}

/// Starts an agent and cuts the power while it recovers or has just begun to serve. Tells whether it served.
fn cut_start(node: Node, name: &str, disk: &mut Disk, dice: &mut Dice) -> (Node, Vec<Answered>, bool) {
    let ended = thread::scope(|scope| {
        let power = scope.spawn(|| {
            dice.wait(RECOVERY);
            disk.cut()
        });
        match node.try_start() {
            Ok(agent) => {
                let load = Load::start(&agent, name, CALLERS);
                power.join().unwrap();
                (agent.stop(Signal::SIGKILL).0, load.end(), true)
            }
            Err((node, log)) => {
                let ended = Instant::now();
                assert!(power.join().unwrap() < ended, "the agent ended with the power on: {log}");
                (node, Vec::new(), false)
            }
        }
    });
    disk.power_off(dice);
    disk.power_on();
    ended
}

#[test]
fn a_strict_entry_that_was_answered_survives_every_power_cut() {
    let node = Node::new(STRICT);
    let Some(mut disk) = Disk::new(&node, Medium::VolatileCache, DISK_BYTES) else { return };
    let mut dice = Dice::new();
    let mut agent = node.start();
    let (mut answers, mut interruptions, rounds) = (0, 0, rounds(5));
    for round in 1..=rounds {
        let load = Load::start(&agent, &round.to_string(), CALLERS);
        load.await_answers(ANSWERS);
        dice.wait(MOMENTS);
        let (node, answered, _) = cut(agent, load, &mut disk, &mut dice);
        answers += answered.len();
        let recovery = Crash::at(&node, answered).recover(node);
        assert!(recovery.missing.is_empty(), "cut {round} took {:?}", recovery.missing);
        interruptions += recovery.interrupted;
        progress(&format!("cut {round} of {rounds}: {answers} answered, 0 missing, {interruptions} interrupted"));
        agent = recovery.agent;
    }
    drop(agent);
    assert!(interruptions > 0, "no cut fell into a change");
}

#[test]
fn a_second_power_cut_during_the_recovery_takes_nothing_either() {
    let node = Node::new(STRICT);
    let Some(mut disk) = Disk::new(&node, Medium::VolatileCache, DISK_BYTES) else { return };
    let mut dice = Dice::new();
    let mut agent = node.start();
    let (mut answers, mut silent, rounds) = (0, 0, rounds(4));
    for round in 1..=rounds {
        let load = Load::start(&agent, &format!("{round}a"), CALLERS);
        load.await_answers(ANSWERS);
        dice.wait(MOMENTS);
        let (node, answered, _) = cut(agent, load, &mut disk, &mut dice);
        answers += answered.len();
        let first = Crash::at(&node, answered);
        let (node, answered, served) = cut_start(node, &format!("{round}b"), &mut disk, &mut dice);
        answers += answered.len();
        silent += u32::from(!served);
        let recovery = first.and(Crash::at(&node, answered)).recover(node);
        assert!(recovery.missing.is_empty(), "cuts {round} took {:?}", recovery.missing);
        progress(&format!(
            "cuts {round} of {rounds}: {answers} answered, 0 missing, {silent} starts did not come to serve"
        ));
        agent = recovery.agent;
    }
}

/// Cuts the power under a load that only reads, on an agent whose reads are relaxed with that window. Gives the age of the oldest
/// answer at the cut that is missing now.
fn oldest_missing(window: Duration, rounds: u32) -> Option<Duration> {
    let config = format!("{STRICT}durability = \"relaxed\"\nwindow_ms = {}\n", window.as_millis());
    let node = Node::new(&config.replacen("durability = \"strict\"\n", "", 1));
    let mut disk = Disk::new(&node, Medium::VolatileCache, DISK_BYTES)?;
    let mut dice = Dice::new();
    let mut agent = node.start();
    // Few enough not to fill a batch before its time.
    let callers = Callers { number: 8, calls: Calls::Reads, pause: Duration::from_millis(20) };
    let mut oldest = Duration::ZERO;
    for round in 1..=rounds {
        let load = Load::start(&agent, &round.to_string(), callers);
        load.await_answers(ANSWERS);
        dice.wait(MOMENTS);
        // Longer than what may be lost.
        thread::sleep(WINDOW + FLUSH);
        let (node, answered, moment) = cut(agent, load, &mut disk, &mut dice);
        let answers = answered.len();
        let recovery = Crash::at(&node, answered).recover(node);
        let ages = recovery.missing.iter().map(|call| moment.saturating_duration_since(call.at));
        oldest = oldest.max(ages.max().unwrap_or_default());
        let missing = recovery.missing.len();
        progress(&format!("cut {round} of {rounds}: {missing} of {answers} missing, the oldest for {oldest:?}"));
        agent = recovery.agent;
    }
    drop(agent);
    Some(oldest)
}

#[test]
fn a_power_cut_takes_no_relaxed_entry_older_than_the_window() {
    let Some(oldest) = oldest_missing(WINDOW, rounds(4)) else { return };
    assert!(oldest <= WINDOW + FLUSH, "an entry was answered {oldest:?} before the cut that took it");
}

#[test]
fn control_a_longer_window_loses_older_entries() {
    let Some(oldest) = oldest_missing(LONG_WINDOW, 1) else { return };
    assert!(oldest > WINDOW + FLUSH, "the rig can't tell windows apart: the oldest was missing for {oldest:?}");
}

#[test]
fn control_without_the_sync_of_the_wal_power_cuts_take_strict_entries() {
    let node = Node::new(STRICT);
    let Some(library) = wal_without_sync(&node) else { return };
    let node = node.variable("LD_PRELOAD", library);
    let Some(mut disk) = Disk::new(&node, Medium::VolatileCache, DISK_BYTES) else { return };
    let mut dice = Dice::new();
    let mut agent = node.start();
    let (mut lossy, rounds) = (0, rounds(5));
    for round in 1..=rounds {
        let load = Load::start(&agent, &round.to_string(), CALLERS);
        // Not at any moment: a cut just after the WAL was moved to the database, whose sync is kept, takes nothing.
        load.await_answers(ANSWERS);
        let (node, answered, _) = cut(agent, load, &mut disk, &mut dice);
        // Of an agent that does not keep its word, nothing else is asked.
        agent = node.start();
        let lost = missing(&agent, &answered).len();
        lossy += u32::from(lost > 0);
        progress(&format!("cut {round} of {rounds}: {lost} of {} missing", answered.len()));
    }
    drop(agent);
    assert!(lossy * 5 >= rounds * 4, "the rig sees too little: entries were lost in {lossy} of {rounds} cuts");
}
