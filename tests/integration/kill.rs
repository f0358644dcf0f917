//! kill -9 under load, again and again.
//!
//! Long form: `ROUNDS=1000 cargo test --release --test integration kill -- --nocapture --test-threads=1`

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Callers, Calls, Crash, Dice, Load, Node, Request, is_long, progress, rounds};

const RING: &str = "[audit]\nmax_entries = 20000\nmax_bytes = 16777216\n";
const CALLERS: Callers = Callers { number: 32, calls: Calls::Mixed, pause: Duration::ZERO };

/// So many calls are answered before the agent may be killed.
const ANSWERS: u64 = 50;

/// The agent is killed at any moment of this time.
const MOMENTS: Duration = Duration::from_millis(100);

/// How soon an agent serves again after it was killed: asked in the long form only, of a release build on a machine that has nothing
/// else to do.
const SERVES_AGAIN: Duration = Duration::from_secs(1);

/// Kills agents with these durabilities. Gives how often one did not know an entry any more that it had answered.
fn lossy_kills(durabilities: &str, rounds: u32) -> u32 {
    let mut dice = Dice::new();
    let mut agent = Node::new(&format!("{RING}{durabilities}")).start();
    let (mut lossy, mut answers, mut interruptions, mut slowest) = (0, 0, 0, Duration::ZERO);
    for round in 1..=rounds {
        let load = Load::start(&agent, &round.to_string(), CALLERS);
        load.await_answers(ANSWERS);
        dice.wait(MOMENTS);
        let (node, _) = agent.stop(Signal::SIGKILL);
        let answered = load.end();
        answers += answered.len();

        let crash = Crash::at(&node, answered);
        let started = Instant::now();
        let agent_again = node.start();
        assert_eq!(agent_again.call(&Request::get("/health/ready")).status, 200);
        let serves_again = started.elapsed();
        assert!(!is_long() || serves_again < SERVES_AGAIN, "kill {round}: it served again after {serves_again:?}");
        slowest = slowest.max(serves_again);

        let recovery = crash.check(agent_again);
        lossy += u32::from(!recovery.missing.is_empty());
        interruptions += recovery.interrupted;
        progress(&format!(
            "kill {round} of {rounds}: {answers} answered, {lossy} kills with missing ones, {interruptions} interrupted, \
             serves again within {slowest:?}"
        ));
        agent = recovery.agent;
    }
    drop(agent);
    assert!(interruptions > 0, "no kill fell into a change");
    lossy
}

#[test]
fn a_strict_entry_that_was_answered_survives_every_kill() {
    assert_eq!(lossy_kills("[audit.read]\ndurability = \"strict\"\n", rounds(10)), 0);
}

#[test]
fn control_kills_take_relaxed_entries() {
    let rounds = rounds(5).min(20);
    let lossy = lossy_kills("[audit.change]\ndurability = \"relaxed\"\n[audit.read]\nwindow_ms = 60000\n", rounds);
    assert!(lossy * 5 >= rounds * 4, "the rig sees too little: entries were lost in {lossy} of {rounds} kills");
}
