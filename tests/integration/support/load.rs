//! Many callers at once who remember which of their calls were answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::http::{Connection, Request, Response};
use super::{Agent, eventually};

/// A call whose response was received to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// The ID that the response gave.
    pub(crate) id: String,
    /// What the call, and no other one, had as its user agent.
    pub(crate) marker: String,
    pub(crate) status: u16,
    /// When the response was there.
    pub(crate) at: Instant,
}

/// What the callers call: a read and a change that its handler judges and refuses, so that nothing changes.
const READ_STATUS: u16 = 200;
const CHANGE_STATUS: u16 = 404;

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callers {
    /// How many, each on a connection of its own.
    pub(crate) number: usize,
    pub(crate) calls: Calls,
    /// How long each waits between an answer and the next call.
    pub(crate) pause: Duration,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Half of the callers make changes, half only read.
    Mixed,
    Reads,
}

/// Running callers.
pub(crate) struct Load {
    progress: Arc<Progress>,
    callers: Vec<JoinHandle<Vec<Answered>>>,
}

#[derive(Default)]
struct Progress {
    ended: AtomicBool,
    answered: AtomicU64,
    slowest_us: AtomicU64,
}

impl Load {
    /// Starts callers. The name is one that no other load on that node has.
    pub(crate) fn start(agent: &Agent, name: &str, callers: Callers) -> Self {
        let progress = Arc::new(Progress::default());
        let token = agent.token(&["admin"]);
        let change = Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#).bearer(&token);
        let read = Request::get("/node/load").bearer(&token);
        let spawn = |number: usize| {
            let changes = callers.calls == Calls::Mixed && number.is_multiple_of(2);
            let caller = Caller {
                address: agent.address(),
                request: if changes { change.clone() } else { read.clone() },
                name: format!("{name}-{number}"),
                pause: callers.pause,
                progress: Arc::clone(&progress),
            };
            thread::spawn(move || caller.run())
        };
        let callers = (0..callers.number).map(spawn).collect();
        Self { progress, callers }
    }

    /// Returns when so many calls were answered.
    pub(crate) fn await_answers(&self, answers: u64) {
        eventually("answers under load", || (self.progress.answered.load(Ordering::Relaxed) >= answers).then_some(()));
    }

    /// The longest that anyone has waited for an answer.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.progress.slowest_us.load(Ordering::Relaxed))
    }

    /// Ends the callers, and gives the calls that were answered as their class demands. Refusals are not among them.
    pub(crate) fn end(self) -> Vec<Answered> {
        self.progress.ended.store(true, Ordering::Relaxed);
        self.callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    }
}

struct Caller {
    address: SocketAddr,
    request: Request,
    name: String,
    pause: Duration,
    progress: Arc<Progress>,
}

impl Caller {
    /// Calls until it is told to end or the agent is gone.
    fn run(self) -> Vec<Answered> {
        let mut answered = Vec::new();
        let Ok(mut connection) = Connection::try_open(self.address) else { return answered };
        for number in 0.. {
            if self.progress.ended.load(Ordering::Relaxed) {
                break;
            }
            let marker = format!("{}-{number}", self.name);
            let request = self.request.clone().header("User-Agent", &marker);
            let called = Instant::now();
            let Ok(response) = connection.try_call(&request) else { break };
            let at = Instant::now();
            let took_us = u64::try_from((at - called).as_micros()).unwrap();
            self.progress.slowest_us.fetch_max(took_us, Ordering::Relaxed);
            // A refusal of a change does not read its body, so it ends the connection.
            if response.header("Connection") == Some("close") {
                let Ok(next) = Connection::try_open(self.address) else { break };
                connection = next;
            }
            if let Some(id) = acknowledged(&response) {
                answered.push(Answered { id, marker, status: response.status, at });
                self.progress.answered.fetch_add(1, Ordering::Relaxed);
            }
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        answered
    }
}

/// The ID of the entry that a response says to be stored as its class demands. A 503 says that it is not.
fn acknowledged(response: &Response) -> Option<String> {
    match response.status {
        READ_STATUS | CHANGE_STATUS => Some(response.audit_id().to_owned()),
        // 408: the agent had no time to read the request.
        408 | 503 => None,
        _ => panic!("{response:?}"),
    }
}

/// Asks the agent for the entry of each call, and gives the calls that have none. The entry of another call is none.
pub(crate) fn missing(agent: &Agent, answered: &[Answered]) -> Vec<Answered> {
    let token = agent.token(&["auditor"]);
    let look = |answered: &[Answered]| -> Vec<Answered> {
        let mut connection = Connection::open(agent.address());
        let mut is_missing = |call: &&Answered| {
            let response = connection.call(&Request::get(&format!("/audit/{}", call.id)).bearer(&token));
            if response.status == 404 {
                return true;
            }
            assert_eq!(response.status, 200, "{}", response.text());
            let entry = &response.json()["entry"];
            entry["id"] != call.id.as_str()
                || entry["user_agent"] != call.marker.as_str()
                || entry["response_code"] != call.status
        };
        answered.iter().filter(|call| is_missing(call)).cloned().collect()
    };
    thread::scope(|scope| {
        let share = answered.len().div_ceil(8).max(1);
        let looks: Vec<_> = answered.chunks(share).map(|share| scope.spawn(move || look(share))).collect();
        looks.into_iter().flat_map(|look| look.join().unwrap()).collect()
    })
}
