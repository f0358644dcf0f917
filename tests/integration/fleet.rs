//! Many agents on one machine, each on an address of its own, read by `nodeaudit pull` while they are called.
//!
//! Long form: `ROUNDS=200 cargo test --release --test integration fleet::`, which counts agents.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Agent, Connection, Node, Pulling, Request, progress, rounds, told};

/// Calls of each agent between two runs, where its ring holds them all.
const CALLS: usize = 40;

/// Runs while the agents are called.
const RUNS: usize = 3;

/// Entries of a ring that is made to overflow.
const SMALL_RING: usize = 1_000;

/// Small agents: a fleet of them shares a machine. Each fifth one has a ring that is too small for what comes.
fn agent(number: u32) -> Agent {
    let [_, _, high, low] = number.to_be_bytes();
    let address = IpAddr::from(Ipv4Addr::new(127, 77, high, low));
    let entries = if overflows(number) { SMALL_RING } else { 10_000 };
    let config = format!(
        "server.workers = 1\naudit.max_entries = {entries}\naudit.max_bytes = 8388608\naudit.denied_entries = 4096\n"
    );
    Node::new(&config).at((address, 0).into()).start()
}

const fn overflows(number: u32) -> bool {
    number % 5 == 3
}

fn name(number: u32) -> String {
    format!("node-{number}")
}

/// Calls an agent so often, and gives the IDs of the entries.
fn call(agent: &Agent, times: usize) -> Vec<String> {
    let mut connection = Connection::open(agent.address());
    let request = Request::get("/node/load").bearer(&agent.token(&["read"]));
    (0..times).map(|_| connection.call(&request).audit_id().to_owned()).collect()
}

/// Calls of agents go on in the background until the last run has ended.
fn while_called<T>(agents: &[Agent], work: impl FnOnce() -> T) -> (T, Vec<Vec<String>>) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let share = agents.len().div_ceil(4);
        let callers: Vec<_> = agents
            .chunks(share)
            .map(|agents| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut ids: Vec<_> = agents.iter().map(|_| Vec::new()).collect();
                    // Once at least, and then in turn for as long as the others read.
                    loop {
                        for (ids, agent) in ids.iter_mut().zip(agents) {
                            ids.extend(call(agent, CALLS));
                        }
                        if is_over.load(Ordering::Relaxed) {
                            return ids;
                        }
                    }
                })
            })
            .collect();
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        (done, callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect())
    })
}

#[test]
fn every_entry_of_every_node_arrives_once_and_what_a_ring_has_lost_is_told() {
    let begun = Instant::now();
    let agents: Vec<_> = (0..rounds(20)).map(agent).collect();
    progress(&format!("{} agents run after {:.1} s", agents.len(), begun.elapsed().as_secs_f64()));
    let mut pulling = Pulling::new();
    (0..).zip(&agents).for_each(|(number, agent)| pulling.add(&name(number), agent));

    let ((), mut called) = while_called(&agents, || {
        for run in 0..RUNS {
            let begun = Instant::now();
            let output = pulling.command(&[]).output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 79)), "{output:?}");
            let entries: u64 = told(&output).values().map(|told| told["entries"].as_u64().unwrap()).sum();
            progress(&format!("run {run}: {entries} entries in {:.1} s", begun.elapsed().as_secs_f64()));
        }
    });
    // Now more comes than some rings hold.
    for (number, (agent, called)) in (0..).zip(agents.iter().zip(&mut called)) {
        called.extend(call(agent, if overflows(number) { 2 * SMALL_RING } else { CALLS }));
    }
    let begun = Instant::now();
    let reports = pulling.run(79);
    let entries: u64 = reports.values().map(|told| told["entries"].as_u64().unwrap()).sum();
    progress(&format!("last run: {entries} entries in {:.1} s", begun.elapsed().as_secs_f64()));

    for (number, called) in (0..).zip(&called) {
        let name = name(number);
        let lines = pulling.lines(&name);
        let missing: u64 = lines.iter().filter_map(|line| line["gap"]["count"].as_u64()).sum();
        let seqs = pulling.seqs(&name);
        assert!(seqs.is_sorted_by(|one, next| one < next), "{name}: none twice, in their order");
        assert_eq!(seqs.len() as u64 + missing, *seqs.last().unwrap(), "{name}: each one, or told to be lost");
        let arrived: BTreeSet<_> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
        let lost = called.iter().filter(|id| !arrived.contains(id.as_str())).count() as u64;
        if overflows(number) {
            assert!(reports[&name]["gaps"].as_u64() > Some(0) && lost > 0, "{name}: {:?}", reports[&name]);
            assert!(lost <= missing, "{name}: {lost} calls are missing, {missing} are told to be");
        } else {
            assert_eq!((lost, missing, &reports[&name]["gaps"]), (0, 0, &Value::from(0)), "{name}");
        }
    }
    progress(&format!(
        "{} calls of {} nodes are accounted for",
        called.iter().map(Vec::len).sum::<usize>(),
        agents.len()
    ));
}
