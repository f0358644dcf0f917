//! A flood of refused calls, stored in few entries that each say for how many calls they stand.
//!
//! Knows which entries of class `denied` wait to be stored. While few wait, every call has an entry of its own. Then a call joins a
//! waiting entry that is like it, and only where there is none it has one of its own, which says less and less as more of them wait.
//! So memory and flash are bounded whatever comes, and entries and their counts add up to the calls. What is stored is never
//! touched again.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash, Hasher as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::audit::class::Class;
use crate::audit::entry::{Call, Entry};
use crate::audit::ring::Record;
use crate::auth::{Actor, network_of};

/// What the calls of one entry have in common, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Likeness {
    /// Everything but their times: one peer repeats itself.
    Call,
    /// The peer's network as limits count it, user with roles and token, and answer: one peer tries many things.
    Caller,
    /// The answer alone: many peers.
    Answer,
}

/// What becomes of a refused call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has an entry of its own, which says as much.
    Own(Likeness),
    /// It joins the record with this index.
    Joins(usize),
}

/// The entries of class `denied` that wait to be stored.
#[derive(Debug)]
pub(super) struct Flood {
    /// So many of them wait at most; beyond it there is one for each answer. A quarter more where it is known who calls: nobody who is
    /// not can have that forgotten.
    limit: usize,
    waiting: usize,
    /// Hash of what calls have in common, to the index of the last record that they can join.
    alike: HashMap<u64, usize>,
    hasher: RandomState,
}

impl Flood {
    /// Nothing waits.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, waiting: 0, alike: HashMap::new(), hasher: RandomState::new() }
    }

    /// What becomes of a call, `records` being those that wait. Where it has an entry of its own, that is pushed next.
    pub(super) fn admit(&mut self, entry: &Entry, records: &[Record]) -> Fate {
        let is_known = entry.call.actor.auth_method.is_some();
        let limit = self.limit + if is_known { self.limit / 4 } else { 0 };
        let likeness = match self.waiting {
            few if few < self.limit / 2 => Likeness::Call,
            more if more < limit => {
                for likeness in [Likeness::Call, Likeness::Caller] {
                    if let Some(index) = self.find(likeness, entry, records) {
                        return Fate::Joins(index);
                    }
                }
                // Of what is kept for those who are known, half is for what they asked for.
                let kept = self.limit..self.limit + self.limit / 8;
                if more < self.limit / 4 * 3 || kept.contains(&more) { Likeness::Call } else { Likeness::Caller }
            }
            _ => {
                for likeness in [Likeness::Call, Likeness::Caller, Likeness::Answer] {
                    if let Some(index) = self.find(likeness, entry, records) {
                        return Fate::Joins(index);
                    }
                }
                Likeness::Answer
            }
        };
        self.waiting += 1;
        self.alike.insert(self.hash(likeness, entry), records.len());
        Fate::Own(likeness)
    }

    /// Records were taken to be stored; `left` are those that wait on. What comes next joins none of them.
    pub(super) fn taken(&mut self, left: &[Record]) {
        self.alike.clear();
        self.waiting = left.iter().filter_map(Record::entry).filter(|entry| entry.class == Class::Denied).count();
    }

    fn find(&self, likeness: Likeness, entry: &Entry, records: &[Record]) -> Option<usize> {
        let index = *self.alike.get(&self.hash(likeness, entry))?;
        let waiting = records.get(index)?.entry()?;
        likeness.holds(waiting, entry).then_some(index)
    }

    fn hash(&self, likeness: Likeness, entry: &Entry) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (likeness, entry.outcome, entry.response_code).hash(&mut hasher);
        let call = &entry.call;
        if likeness != Likeness::Answer {
            (network(call), who(call)).hash(&mut hasher);
        }
        if likeness == Likeness::Call {
            (call.source_ip, call.forwarded_for).hash(&mut hasher);
            (&call.method, &call.path, &call.user_agent).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Likeness {
    /// Whether what waits has so much in common with what comes.
    fn holds(self, waiting: &Entry, coming: &Entry) -> bool {
        let (a, b) = (&waiting.call, &coming.call);
        let answer = (waiting.outcome, waiting.response_code) == (coming.outcome, coming.response_code);
        let caller = || network(a) == network(b) && who(a) == who(b);
        let call = || {
            a.source_ip == b.source_ip
                && a.forwarded_for == b.forwarded_for
                && a.method == b.method
                && a.path == b.path
                && a.user_agent == b.user_agent
                && a.operation.map(|operation| operation.id) == b.operation.map(|operation| operation.id)
        };
        answer
            && match self {
                Self::Call => caller() && call(),
                Self::Caller => caller(),
                Self::Answer => true,
            }
    }

    /// The entry, saying only what the calls that may join it have in common.
    pub(super) fn restrict(self, mut entry: Entry) -> Entry {
        let call = &mut entry.call;
        if self != Self::Call {
            (call.method, call.path) = Default::default();
            (call.operation, call.user_agent, call.trace_id) = (None, None, None);
            (call.source_ip, call.forwarded_for) = network(call);
        }
        if self == Self::Answer {
            // Whoever reads it sees that it is nobody's address (RFC 1122, section 3.2.1.3).
            (call.source_ip, call.forwarded_for) = (Ipv4Addr::UNSPECIFIED.into(), None);
            call.actor = Arc::new(Actor::default());
        }
        entry
    }
}

/// Where calls come from that are one caller's, who may have all addresses of a network.
fn network(call: &Call) -> (IpAddr, Option<IpAddr>) {
    (network_of(call.source_ip), call.forwarded_for.map(network_of))
}

/// What an entry says of who calls.
fn who(call: &Call) -> impl Hash + Eq + '_ {
    let actor = &call.actor;
    (&actor.user, &actor.roles, &actor.token_id, actor.auth_method)
}

/// Counts `coming` in `waiting`.
pub(super) fn join(waiting: &mut Entry, coming: &Entry) {
    waiting.calls += coming.calls;
    let since_first = coming.call.arrival.monotonic_us - waiting.call.arrival.monotonic_us;
    waiting.span_us = waiting.span_us.max(u64::try_from(since_first).unwrap_or(0));
    if waiting.call.trace_id != coming.call.trace_id {
        waiting.call.trace_id = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use std::net::Ipv6Addr;

    use super::*;
    use crate::audit::entry::{Arrival, Outcome, Seq};

    const LIMIT: usize = 64;

    fn refused(peer: u32, path: u32, response_code: u16) -> Entry {
        let call = Call {
            arrival: Arrival { timestamp_ms: 0, monotonic_us: 0, clock_synced: false },
            method: "GET".into(),
            path: format!("/{path}").into(),
            operation: None,
            actor: Arc::default(),
            source_ip: Ipv4Addr::from(0x7f00_0000 + peer).into(),
            trace_id: None,
            user_agent: None,
            forwarded_for: None,
        };
        let (class, outcome) = (Class::Denied, Outcome::Completed);
        Entry { call, class, outcome, response_code, duration_us: 0, calls: 1, span_us: 0 }
    }

    /// What waits after these calls, each of them by its number.
    fn waiting(calls: impl IntoIterator<Item = Entry>) -> Vec<Record> {
        let (mut flood, mut records) = (Flood::new(LIMIT), Vec::new());
        for (number, mut entry) in calls.into_iter().enumerate() {
            entry.call.arrival.monotonic_us = i64::try_from(number).unwrap();
            match flood.admit(&entry, &records) {
                Fate::Own(likeness) => records.push(Record::Entry(Seq(0), likeness.restrict(entry), None)),
                Fate::Joins(index) => {
                    let Record::Entry(_, waiting, _) = &mut records[index] else { unreachable!() };
                    join(waiting, &entry);
                }
            }
        }
        records
    }

    fn calls(records: &[Record]) -> u64 {
        records.iter().filter_map(Record::entry).map(|entry| entry.calls).sum()
    }

    #[test]
    fn a_few_calls_have_an_entry_each_even_if_they_are_alike() {
        let records = waiting((0..31).map(|_| refused(1, 1, 401)));
        assert_eq!((records.len(), calls(&records)), (31, 31));
    }

    #[test]
    fn one_peer_that_repeats_itself_is_counted_in_one_entry() {
        let records = waiting((0..1_000).map(|_| refused(1, 1, 401)));
        let last = records.last().unwrap().entry().unwrap();
        assert_eq!((records.len(), calls(&records)), (LIMIT / 2, 1_000));
        assert_eq!((last.calls, last.span_us, &*last.call.path), (969, 968, "/1"));
    }

    #[test]
    fn one_peer_that_tries_many_things_keeps_its_address_and_others_their_entries() {
        let flood = (0..1_000).map(|path| refused(1, path, 404));
        let records = waiting(flood.chain([refused(2, 7, 404)]));
        let of_flood: u64 = records
            .iter()
            .filter_map(Record::entry)
            .filter(|e| e.call.source_ip == refused(1, 0, 0).call.source_ip)
            .map(|e| e.calls)
            .sum();
        assert_eq!((calls(&records), of_flood), (1_001, 1_000));
        assert!(records.iter().filter_map(Record::entry).any(|entry| entry.call.path.is_empty() && entry.calls > 900));
        assert_eq!(records.last().unwrap().entry().unwrap().call.source_ip, refused(2, 0, 0).call.source_ip);
    }

    #[test]
    fn many_peers_are_counted_by_what_they_were_answered() {
        let records = waiting((0..1_000).map(|peer| refused(peer, 1, if peer % 2 == 0 { 401 } else { 404 })));
        assert_eq!((records.len(), calls(&records)), (LIMIT + 2, 1_000));
        let unknown: BTreeSet<_> =
            records[LIMIT..].iter().filter_map(Record::entry).map(|entry| entry.response_code).collect();
        assert_eq!(unknown, [401, 404].into());
    }

    fn from(mut entry: Entry, address: impl Into<IpAddr>) -> Entry {
        entry.call.source_ip = address.into();
        entry
    }

    #[test]
    fn all_addresses_of_one_network_are_one_peer() {
        let network = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 0));
        let flood = (0..1_000).map(|host| from(refused(0, 1, 401), Ipv6Addr::from(network + host)));
        let records = waiting(flood.chain([refused(2, 7, 401)]));
        let told = |number: usize| records[number].entry().unwrap();
        assert_eq!((records.len(), calls(&records)), (LIMIT / 4 * 3 + 2, 1_001));
        assert_eq!(told(LIMIT / 4 * 3).call.source_ip, Ipv6Addr::from(network), "{}", told(LIMIT / 4 * 3).calls);
        assert_eq!(told(LIMIT / 4 * 3 + 1).call.source_ip, refused(2, 0, 0).call.source_ip, "others have their own");
    }

    #[test]
    fn who_is_known_is_named_however_many_others_come() {
        let mut known = refused(2_000, 7, 403);
        let auth_method = Some(crate::auth::AuthMethod::Bearer);
        known.call.actor = Arc::new(Actor { user: "insider".to_owned(), auth_method, ..Actor::default() });
        let records = waiting((0..1_000).map(|peer| refused(peer, 1, 403)).chain([known.clone(), known.clone()]));
        let entries = records.iter().filter_map(Record::entry);
        let of_known: Vec<_> = entries.filter(|entry| entry.call.actor == known.call.actor).collect();
        assert_eq!((of_known.len(), of_known[0].calls), (1, 2));
        assert_eq!((of_known[0].call.source_ip, &*of_known[0].call.path), (known.call.source_ip, "/7"));
        // With a token, too, memory and flash are bounded.
        let many = (0..1_000_u32).map(|peer| from(known.clone(), Ipv4Addr::from(peer << 8)));
        assert_eq!(waiting(many).len(), LIMIT + LIMIT / 4 + 1);
    }

    #[test]
    fn calls_with_other_roles_or_tokens_are_not_counted_together() {
        let by = |roles: &str, token_id: &str| {
            let mut entry = refused(1, 1, 403);
            let (user, roles, token_id) = ("ops".to_owned(), roles.to_owned(), Some(token_id.to_owned()));
            entry.call.actor = Arc::new(Actor { user, roles, token_id, ..Actor::default() });
            entry
        };
        let records = waiting((0..600).map(|number| match number % 3 {
            0 => by("read", "a"),
            1 => by("write", "a"),
            _ => by("read", "b"),
        }));
        let of = |roles: &str, token_id: &str| -> u64 {
            let actor = by(roles, token_id).call.actor;
            let entries = records.iter().filter_map(Record::entry).filter(|entry| entry.call.actor == actor);
            entries.map(|entry| entry.calls).sum()
        };
        assert_eq!((of("read", "a"), of("write", "a"), of("read", "b")), (200, 200, 200));
    }

    proptest! {
        #[test]
        fn entries_and_counts_add_up_and_never_are_too_many(
            drawn in prop::collection::vec((0_u32..100, 0_u32..100, 400_u16..405), 0..600),
        ) {
            let records = waiting(drawn.iter().map(|&(peer, path, code)| refused(peer, path, code)));
            prop_assert_eq!(calls(&records), drawn.len() as u64);
            prop_assert!(records.len() <= LIMIT + 5);
            for code in 400..405 {
                let of_code: u64 = records.iter().filter_map(Record::entry).filter(|e| e.response_code == code).map(|e| e.calls).sum();
                prop_assert_eq!(of_code, drawn.iter().filter(|call| call.2 == code).count() as u64);
            }
        }
    }
}
