//! The kernel dies under load: what it had not written to the disk is gone, for the agent and for the file system below it.
//!
//! The machine is emulated, and made of what `tests/fixtures/kernel/build` gets. Short form: with all other tests. Long form, such
//! as 100 kernels with progress: `ROUNDS=100 cargo test --release --test integration kernel_kill -- --nocapture`

mod machine;

use std::time::Duration;

use machine::{Machine, Running};
use serde_json::json;

use crate::support::{
    Agent, Answered, Callers, Calls, Connection, Dice, Load, Request, RingFile, missing, progress, rounds,
};

const CALLERS: Callers = Callers { number: 6, calls: Calls::Mixed, pause: Duration::ZERO };

/// Changes that have begun when the load begins, and never end.
const HELD: usize = 3;

/// Has the agent called from all sides until its kernel is killed. Gives the calls that were answered.
fn kill_under_load(running: Running, name: &str, answers: u64) -> (Machine, Vec<Answered>) {
    let load = Load::start(&running.agent, name, CALLERS);
    load.await_answers(answers);
    let machine = running.kill();
    (machine, load.end())
}

/// Begins a change and leaves it in the air: half of its body is missing. The agent has begun with it when this returns, so its intent is
/// stored with the next answered change at the latest.
fn hold_change(agent: &Agent, marker: &str) -> Connection {
    let request = Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#);
    let mut connection = Connection::open(agent.address());
    let request =
        request.bearer(&agent.token(&["admin"])).header("User-Agent", marker).header("Expect", "100-continue");
    connection.send(&request.head());
    assert_eq!(connection.receive("PUT").status, 100);
    connection.send(br#"{"timezone": "#);
    connection
}

/// Boots once more and finds the entry of each of these calls, each change that was interrupted told once, and nothing else lost.
fn boot_whole(machine: Machine, answered: &[Answered], interrupted: usize) -> Running {
    let running = machine.boot("");
    assert_eq!(missing(&running.agent, answered).len(), 0, "missing of {} calls", answered.len());
    let status = running.agent.read("/audit/status");
    assert_eq!(status["interrupted"], interrupted, "{status}");
    for lost in ["damaged_files", "evicted", "dropped"] {
        assert_eq!(status[lost], 0, "{lost}: {status}");
    }
    running
}

#[test]
fn answered_calls_outlive_their_kernel() {
    let Some(mut machine) = Machine::new() else { return };
    let rounds = rounds(2);
    let mut dice = Dice::new();
    // The calls of all rounds, and of the last one: an emulated processor looks for some tens of entries a second.
    let (mut answered, mut last) = (Vec::new(), Vec::new());
    let mut interrupted = 0;
    for round in 1..=rounds {
        let running = boot_whole(machine, &last, interrupted);
        let markers: Vec<String> = (0..HELD).map(|number| format!("held-{round}-{number}")).collect();
        let held: Vec<_> = markers.iter().map(|marker| hold_change(&running.agent, marker)).collect();
        let (killed, calls) = kill_under_load(running, &format!("load-{round}"), 30 + dice.below(300));
        drop(held);
        answered.extend_from_slice(&calls);
        last = calls;

        // What the dead kernel left, read without the agent.
        let file = RingFile::copy_of(&killed.node);
        file.assert_sound();
        let open = file.open_intents();
        assert!(markers.iter().all(|marker| open.contains(marker)), "{markers:?} are not all among {open:?}");
        interrupted += open.len();
        progress(&format!("kernel {round}/{rounds}: {} answered, {interrupted} interrupted", answered.len()));
        machine = killed;
    }
    drop(boot_whole(machine, &answered, interrupted));
}

#[test]
fn a_reboot_through_the_api_is_in_the_ring_after_the_boot() {
    let Some(machine) = Machine::new() else { return };
    let running = machine.boot("");
    let reboot = Request::new("POST", "/node/power/reboot").bearer(&running.agent.token(&["admin"]));
    let response = running.agent.call(&reboot);
    assert_eq!(response.status, 202, "{}", response.text());
    let running = running.await_end().boot("");
    let entry = running.agent.entry_of(&response);
    assert_eq!((&entry["operation_id"], &entry["outcome"]), (&json!("PostNodePowerReboot"), &json!("completed")));
    assert_eq!((&entry["class"], &entry["response_code"]), (&json!("change"), &json!(202)));
    let now = &running.agent.read("/audit?limit=1")["items"][0];
    assert_ne!(entry["boot_id"], now["boot_id"], "another boot");
}

#[test]
fn without_syncs_the_end_of_a_kernel_takes_acknowledged_entries() {
    let Some(machine) = Machine::new() else { return };
    // What the kernel does not know goes to the environment of its first process, which becomes the agent.
    let running = machine.boot("LD_PRELOAD=/lib/libeatmydata.so");
    let (machine, answered) = kill_under_load(running, "load", 100);
    let running = machine.boot("");
    let missing = missing(&running.agent, &answered);
    assert!(!missing.is_empty(), "nothing is lost without syncs: this rig would not show a loss");
}
