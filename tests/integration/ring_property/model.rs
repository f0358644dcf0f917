//! The ring as a plain list that evicts by the rule in the docs of `retention`.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use nodeaudit::api;
use nodeaudit::audit::ring::RingOptions;
use nodeaudit::audit::{Arrival, Call, Class, EntryId, Outcome, Seq};
use nodeaudit::auth::{Actor, AuthMethod};
use nodeaudit::host::clock;
use nodeaudit::operation::Operation;
use serde_json::{Value, json};

/// Extents of a full ring, as `retention` has it.
const EXTENTS: u64 = 128;
/// Parts of a ring in which shares are compared.
const WHOLE: u64 = 1_000_000;

/// A call as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) class: Class,
    pub(super) outcome: Outcome,
    pub(super) response_code: u16,
    pub(super) duration_us: u64,
    pub(super) timestamp_ms: i64,
    pub(super) operation: Option<usize>,
    pub(super) path_bytes: usize,
    pub(super) user: String,
    pub(super) roles: Vec<String>,
    pub(super) source_ip: IpAddr,
    pub(super) trace_id: Option<[u8; 16]>,
    pub(super) user_agent: Option<String>,
    /// Whether an intent was stored before.
    pub(super) intended: bool,
}

/// An entry of the model: its seq, its ID and its JSON.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) seq: u64,
    pub(super) id: EntryId,
    pub(super) json: Value,
}

/// One class of the model. Eviction is by extents: the last of these still grows.
#[derive(Clone, Debug, Default)]
pub(super) struct ClassModel {
    pub(super) extents: VecDeque<Vec<Held>>,
    pub(super) evicted: u64,
    pub(super) dropped: u64,
    pub(super) interrupted: u64,
}

impl ClassModel {
    pub(super) fn entries(&self) -> u64 {
        self.extents.iter().map(|extent| extent.len() as u64).sum()
    }
}

/// The ring as a list, evicting by the rule in the docs of `retention`.
pub(super) struct Model {
    pub(super) max_entries: u64,
    pub(super) guarantee_percent: [u64; 3],
    pub(super) classes: [ClassModel; 3],
    pub(super) gone: Vec<EntryId>,
    pub(super) last_seq: u64,
    pub(super) begun: Vec<(Draft, u32)>,
}

impl Model {
    pub(super) fn new(options: &RingOptions) -> Self {
        Self {
            max_entries: options.max_entries,
            guarantee_percent: options.guarantee_percent,
            classes: Default::default(),
            gone: Vec::new(),
            last_seq: 0,
            begun: Vec::new(),
        }
    }

    pub(super) fn entries(&self) -> u64 {
        self.classes.iter().map(ClassModel::entries).sum()
    }

    /// Entries of an extent that is full.
    fn grain(&self) -> usize {
        index((self.max_entries / EXTENTS).max(1))
    }

    fn share(&self, entries: u64) -> u64 {
        entries * WHOLE / self.max_entries
    }

    fn guarantee(&self, class: usize) -> u64 {
        self.guarantee_percent[class] * WHOLE / 100
    }

    /// Whether a class can give its oldest extent and still have what is guaranteed to it.
    fn can_give(&self, class: usize) -> bool {
        let oldest = self.classes[class].extents.front().map_or(0, |extent| extent.len() as u64);
        oldest > 0 && self.share(self.classes[class].entries() - oldest) >= self.guarantee(class)
    }

    /// A class that has reached its guarantee makes room itself; else the one that exceeds its own the most.
    fn evict(&mut self, newcomer: Option<usize>) {
        let richest = || {
            let excess =
                |&class: &usize| self.share(self.classes[class].entries()).saturating_sub(self.guarantee(class));
            (0..3).filter(|&class| self.can_give(class)).max_by_key(excess)
        };
        let victim =
            newcomer.filter(|&class| self.can_give(class)).or_else(richest).expect("a tenth is guaranteed to no class");
        let grain = self.grain();
        let class = &mut self.classes[victim];
        let oldest = class.extents.front_mut().expect("it can give one");
        // An extent that dates from larger limits goes piece by piece.
        let evicted: Vec<Held> = oldest.drain(..oldest.len().min(grain)).collect();
        match (oldest.is_empty(), class.extents.len()) {
            (true, _) => drop(class.extents.pop_front()),
            (false, 1) => class.extents.push_back(Vec::new()),
            (false, _) => {}
        }
        class.evicted += evicted.len() as u64;
        self.gone.extend(evicted.iter().map(|held| held.id));
    }

    pub(super) fn insert(&mut self, draft: &Draft, outcome: Outcome, run_tag: u32, options: &RingOptions) {
        let class = draft.class.index();
        while self.entries() + 1 > self.max_entries {
            self.evict(Some(class));
        }
        self.last_seq += 1;
        let held = draft.held(self.last_seq, outcome, run_tag, options);
        let grain = self.grain();
        let extents = &mut self.classes[class].extents;
        if extents.is_empty() {
            extents.push_back(Vec::new());
        }
        let open = extents.back_mut().unwrap();
        open.push(held);
        if open.len() >= grain {
            extents.push_back(Vec::new());
        }
    }

    pub(super) fn reopen(&mut self, options: &RingOptions) {
        (self.max_entries, self.guarantee_percent) = (options.max_entries, options.guarantee_percent);
        while self.entries() > self.max_entries {
            self.evict(None);
        }
        for (draft, run_tag) in std::mem::take(&mut self.begun) {
            let unknown = Draft { response_code: 0, duration_us: 0, ..draft };
            self.insert(&unknown, Outcome::Interrupted, run_tag, options);
            self.classes[Class::Change.index()].interrupted += 1;
        }
    }

    /// All entries, oldest first.
    pub(super) fn all(&self) -> Vec<&Held> {
        let mut all: Vec<_> = self.classes.iter().flat_map(|class| class.extents.iter().flatten()).collect();
        all.sort_by_key(|held| held.seq);
        all
    }
}

impl Draft {
    pub(super) fn call(&self) -> Call {
        Call {
            arrival: Arrival {
                timestamp_ms: self.timestamp_ms,
                monotonic_us: 77,
                clock_synced: self.path_bytes.is_multiple_of(2),
            },
            method: "GET".into(),
            path: self.path().into(),
            operation: self.operation(),
            actor: Arc::new(Actor {
                user: self.user.clone(),
                roles: self.roles.join("\n"),
                token_id: self.user_agent.clone(),
                auth_method: (!self.user.is_empty()).then_some(AuthMethod::Bearer),
                ..Actor::default()
            }),
            source_ip: self.source_ip,
            trace_id: self.trace_id,
            user_agent: self.user_agent.clone(),
            forwarded_for: self.trace_id.map(|_| self.source_ip),
        }
    }

    fn path(&self) -> String {
        "/".repeat(self.path_bytes)
    }

    /// How many calls it stands for, and from the first to the last of them.
    pub(super) fn several(&self) -> (u64, u64) {
        let calls = if self.class == Class::Denied { 1 + self.path_bytes as u64 % 3 } else { 1 };
        (calls, (calls - 1) * 1_234_567)
    }

    fn operation(&self) -> Option<Operation> {
        self.operation.map(|number| api::endpoints()[number].operation)
    }

    /// The entry as it has to be served.
    fn held(&self, seq: u64, outcome: Outcome, run_tag: u32, options: &RingOptions) -> Held {
        let id = EntryId::new(self.timestamp_ms, self.class, Seq(seq), run_tag);
        let mut json = json!({
            "id": id.encode(&mut [0; 36]),
            "timestamp": clock::rfc3339(self.timestamp_ms),
            "user": self.user,
            "roles": self.roles,
            "method": "GET",
            "path": self.path(),
            "operation_id": self.operation().map_or("", |operation| operation.id),
            "source_ip": self.source_ip,
            "response_code": self.response_code,
            "duration_ms": self.duration_us / 1_000,
            "seq": seq,
            "class": self.class,
            "outcome": outcome,
            "boot_id": options.boot_id,
            "monotonic_us": 77,
            "duration_us": self.duration_us,
            "clock_synced": self.path_bytes.is_multiple_of(2),
        });
        let (calls, span_us) = self.several();
        if calls > 1 {
            let last_ms = self.timestamp_ms + i64::try_from(span_us / 1_000).unwrap();
            json["count"] = json!(calls);
            json["last_timestamp"] = json!(clock::rfc3339(last_ms));
        }
        let hexadecimal = |bytes: [u8; 16]| format!("{:032x}", u128::from_be_bytes(bytes));
        let optional = [
            ("permission", self.operation().map(|operation| operation.permission.as_str().to_owned())),
            ("token_id", self.user_agent.clone()),
            ("auth_method", (!self.user.is_empty()).then(|| "bearer".to_owned())),
            ("trace_id", self.trace_id.map(hexadecimal)),
            ("user_agent", self.user_agent.clone()),
            ("forwarded_for", self.trace_id.map(|_| self.source_ip.to_string())),
        ];
        let present = optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
        json.as_object_mut().unwrap().extend(present);
        Held { seq, id, json }
    }
}

pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}
