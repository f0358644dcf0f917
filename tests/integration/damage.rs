//! A ring that is damaged while no agent runs: the next start serves in time, and serves no entry that is not what was stored.
//!
//! Each seed is one way to damage the database, the WAL or both, the same each time. What is served is compared byte for byte.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Agent, Connection, Dice, Node, Request, Response, eventually, is_long, progress, rounds};

const CONFIG: &str = "[audit]\nmax_entries = 3000\nmax_bytes = 1048576\ndenied_entries = 4096\n";
const PAGE_BYTES: usize = 4096;
/// Part of a user agent.
const TEXT: &[u8] = b"a reader with a long name";
const FILES: [&str; 2] = ["ring.sqlite", "ring.sqlite-wal"];

/// A state folder as a killed agent left it, and the line of each entry in it by its ID.
struct Original {
    node: Node,
    entries: HashMap<String, String>,
}

impl Original {
    fn make() -> Self {
        let agent = Node::new(CONFIG).start();
        let admin = agent.token(&["admin"]);
        let calls = [
            Request::get("/node/load").bearer(&admin).header("User-Agent", "a reader with a long name/1.0"),
            Request::get("/node/os").header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Request::new("POST", "/node/power/reboot").bearer(&admin),
            Request::get("/no/such/path/at/all"),
        ];
        let mut connection = Connection::open(agent.address());
        // Enough for inner pages, a checkpoint, and a WAL that holds the rest.
        for number in 0..600 {
            connection.call(&calls[number % calls.len()]);
        }
        agent.read("/audit/status");
        let (node, _) = agent.stop(Signal::SIGKILL);
        assert!(node.state_dir().join(FILES[1]).metadata().unwrap().len() > 0);
        let whole = copy(&node).start();
        let entries = exported(&whole).lines().map(|line| (id_of(line), line.to_owned())).collect();
        Self { node, entries }
    }
}

/// A node with the same state.
fn copy(node: &Node) -> Node {
    let copy = Node::new(CONFIG);
    let copied = std::process::Command::new("/bin/cp").arg("-a").args([node.state_dir(), copy.state_dir()]).status();
    assert!(copied.unwrap().success());
    copy
}

fn id_of(line: &str) -> String {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
}

fn exported(agent: &Agent) -> String {
    let export = Request::get("/audit/export?format=ndjson").bearer(&agent.token(&["admin"]));
    agent.call(&export).text().to_owned()
}

/// One way to damage bytes.
fn damage(bytes: &mut Vec<u8>, used: usize, dice: &mut Dice) -> &'static str {
    let mut below = |end: usize| usize::try_from(dice.below(end.max(1) as u64)).unwrap();
    let pages = (used / PAGE_BYTES).max(1);
    let page = |number: usize| number * PAGE_BYTES..((number + 1) * PAGE_BYTES).min(used);
    match below(9) {
        0 | 1 => {
            bytes[below(used)] ^= 1 << below(8);
            "a flipped bit"
        }
        2 => {
            (0..=below(32)).for_each(|_| bytes[below(used)] = u8::try_from(below(256)).unwrap());
            "scattered bytes"
        }
        3 => {
            let at = below(used);
            let end = (at + 1 + below(64)).min(used);
            bytes[at..end].iter_mut().for_each(|byte| *byte = u8::try_from(below(256)).unwrap());
            "a run of wrong bytes"
        }
        4 => {
            bytes[page(below(pages))].fill(0);
            "a page of zeros"
        }
        5 => {
            let (from, to) = (page(below(pages)), page(below(pages)));
            let length = from.len().min(to.len());
            bytes.copy_within(from.start..from.start + length, to.start);
            "a page in two places"
        }
        6 => {
            let at = below(used) / 512 * 512;
            let end = (at + 512).min(used);
            bytes[at..end].iter_mut().for_each(|byte| *byte = u8::try_from(below(256)).unwrap());
            "a wrong sector"
        }
        7 => {
            bytes[..below(100)].fill(u8::try_from(below(256)).unwrap());
            "a wrong header"
        }
        _ => {
            bytes.truncate(below(used));
            "a cut end"
        }
    }
}

/// Damages one of the files, or both.
fn damage_files(state_dir: &Path, dice: &mut Dice) -> String {
    let which: &[&str] = match dice.below(3) {
        0 => &FILES[..1],
        1 => &FILES[1..],
        _ => &FILES,
    };
    let damage = |name: &&str| {
        let path = state_dir.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let used = match *name {
            // The rest is reserved, and zero.
            "ring.sqlite" => bytes.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(PAGE_BYTES),
            _ => bytes.len(),
        };
        let how = damage(&mut bytes, used, dice);
        fs::write(&path, bytes).unwrap();
        format!("{how} in {name}")
    };
    which.iter().map(damage).collect::<Vec<_>>().join(", ")
}

/// What became of a damaged ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Nothing is missing.
    Whole,
    /// A new ring has taken its place, and says so.
    SetAside,
    /// The end of the WAL is gone, as after a power cut.
    CutShort,
}

/// An agent on a damaged ring that looks at everything, until all of it is served.
struct Look<'a> {
    agent: Agent,
    original: &'a Original,
    /// The IDs of the calls of this run.
    made: HashSet<String>,
    /// How many of them were not answered to their end.
    broken: u32,
    /// Entries that are not what was stored.
    wrong: Vec<String>,
    token: String,
}

impl<'a> Look<'a> {
    fn begin(agent: Agent, original: &'a Original) -> Self {
        let token = agent.token(&["admin"]);
        Self { agent, original, made: HashSet::new(), broken: 0, wrong: Vec::new(), token }
    }

    /// None where the answer broke off, as that of an export does that comes upon the damage.
    fn call(&mut self, target: &str) -> Option<Response> {
        let request = Request::get(target).bearer(&self.token);
        let response = Connection::open(self.agent.address()).try_call(&request).ok();
        // Its entry is in the ring, but nobody has read its ID.
        self.broken += u32::from(response.is_none());
        self.made.extend(response.iter().map(|response| response.audit_id().to_owned()));
        response
    }

    /// Reads in each way until it is answered, and checks each entry that is served.
    fn read(&mut self, target: &str) -> Response {
        eventually("an answer from the ring", || {
            let response = self.call(target)?;
            assert!([200, 503].contains(&response.status), "{target}: {}", response.text());
            (response.status == 200).then_some(response)
        })
    }

    /// The ID of an entry that was stored before; a wrong one is kept for the verdict.
    fn judge(&mut self, line: &str) -> Option<String> {
        let id = id_of(line);
        let known = self.original.entries.get(&id);
        let is_broken = self.broken > 0 && line.contains("\"path\":\"/audit/export\"");
        // What cuts the WAL short between intent and outcome leaves what a power cut would.
        let is_cut = line.contains("\"outcome\":\"interrupted\"") && line.contains("\"response_code\":0");
        let is_made = self.made.contains(&id) || is_broken || is_cut;
        if !(is_made || known.is_some_and(|known| known == line)) {
            self.wrong.push(line.to_owned());
        }
        known.map(|_| id)
    }

    fn fate(&mut self) -> Fate {
        for offset in [0, 100, 300] {
            let page = self.read(&format!("/audit?limit=100&offset={offset}"));
            let body = page.text();
            let items = body.split_once("\"items\":[").unwrap().1.strip_suffix("]}").unwrap();
            items.split_inclusive("},{").for_each(|item| {
                let item = item.trim_end_matches(",{").trim_end_matches(',');
                let open = if item.starts_with('{') { "" } else { "{" };
                self.judge(&format!("{open}{item}"));
            });
        }
        let export = self.read("/audit/export?format=ndjson");
        let kept: HashSet<_> = export
            .text()
            .lines()
            .filter(|line| !line.contains("\"gap\""))
            .filter_map(|line| self.judge(line))
            .collect();
        let some: Vec<_> = kept.iter().take(5).cloned().collect();
        for id in some {
            let entry = self.read(&format!("/audit/{id}"));
            let line = entry.text().strip_prefix("{\"entry\":").unwrap().strip_suffix('}').unwrap();
            assert_eq!(self.judge(line), Some(id));
        }
        let status = self.read("/audit/status").json();
        match (status["origin"].as_str().unwrap(), kept.len() == self.original.entries.len()) {
            ("first", true) => Fate::Whole,
            ("damaged" | "missing", false) => {
                assert_eq!(status["damaged_files"], 1, "what was damaged is kept: {status}");
                Fate::SetAside
            }
            _ => Fate::CutShort,
        }
    }
}

/// A ring that says that its rows have no sums, as one of an earlier version does.
fn without_sums(node: Node) -> Node {
    let ring = rusqlite::Connection::open(node.state_dir().join(FILES[0])).unwrap();
    ring.execute_batch("UPDATE ring SET sums_after = 1000000; UPDATE read SET sum = NULL; UPDATE read_common SET path = path || '/other'")
        .unwrap();
    node
}

#[test]
fn control_a_wrong_row_without_a_sum_is_seen_to_be_served() {
    let original = Original::make();
    let mut look = Look::begin(without_sums(copy(&original.node)).start(), &original);
    look.fate();
    assert!(look.wrong.iter().any(|line| line.contains("/node/load/other")), "{:?}", look.wrong);
}

#[test]
fn a_text_that_became_another_one_is_not_served() {
    let original = Original::make();
    let agent = copy(&original.node).start();
    agent.call(&Request::get("/health"));
    let (node, _) = agent.stop(Signal::SIGTERM);
    let path = node.state_dir().join(FILES[0]);
    let mut bytes = fs::read(&path).unwrap();
    let texts: Vec<_> = (0..bytes.len() - TEXT.len()).filter(|&at| bytes[at..].starts_with(TEXT)).collect();
    assert!(!texts.is_empty());
    // The file stays a sound database.
    for at in texts {
        bytes[at] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let mut look = Look::begin(node.start(), &original);
    assert_eq!((look.fate(), look.wrong), (Fate::SetAside, Vec::new()));
}

#[test]
fn no_damage_makes_the_agent_serve_a_wrong_entry_or_start_late() {
    let original = Original::make();
    assert!(original.entries.len() > 300, "{}", original.entries.len());
    assert_eq!(Look::begin(copy(&original.node).start(), &original).fate(), Fate::Whole, "the control: undamaged");
    let seeds = rounds(25);
    let mut fates = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    for seed in 0..seeds {
        let node = copy(&original.node);
        let how = damage_files(&node.state_dir(), &mut Dice::seeded(seed.into()));
        let since = Instant::now();
        let agent = node.try_start().unwrap_or_else(|(_, log)| panic!("seed {seed}, {how}: the agent ended: {log}"));
        slowest = slowest.max(since.elapsed());
        let mut look = Look::begin(agent, &original);
        let fate = look.fate();
        assert!(look.wrong.is_empty(), "seed {seed}, {how}: wrong entries: {:?}", look.wrong);
        // Whatever it found, it records: a change is stored, and is there after a crash.
        let change = Request::new("POST", "/node/power/reboot").bearer(&look.token);
        let change = eventually("a recorded change", || {
            let response = look.agent.call(&change);
            (!response.text().contains("can't be recorded")).then_some(response)
        });
        let (node, log) = look.agent.stop(Signal::SIGKILL);
        assert!(!log.contains("panicked"), "seed {seed}, {how}: {log}");
        let agent = node.start();
        agent.entry_of(&change);
        assert!(fate != Fate::CutShort || how.contains("-wal"), "seed {seed}, {how}: entries are missing silently");
        *fates.entry(fate).or_insert(0) += 1;
        progress(&format!("seed {seed}: {how}: {fate:?}"));
    }
    progress(&format!("{fates:?}, the slowest start took {slowest:?}"));
    assert!(!is_long() || slowest < Duration::from_secs(2), "the slowest start took {slowest:?}");
    assert!(fates.len() > 1, "the damage does something: {fates:?}");
}
