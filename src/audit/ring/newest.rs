//! The newest entries in memory, as they are stored: the first page of the log touches neither the file nor another thread.
//!
//! The ring adds what it has committed, before anyone who waits for it goes on. Kept only while pages are read, so that a node whose log
//! nobody reads copies nothing. What is kept follows each other without a gap and ends with the ring's newest entry; where it isn't
//! sure what the file holds, all is forgotten, and pages are read from the file until enough entries have come.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::Record;
use super::rows::Run;
use crate::audit::class::Class;
use crate::audit::entry::{Entry, EntryId, Seq, ServedEntry};
use crate::auth::AuthMethod;
use crate::hexadecimal;

/// So many entries are kept: the largest page.
const ENTRIES: usize = 100;

/// After so many batches without a page being read nothing is kept.
const BATCHES_UNREAD: u32 = 64;

/// The newest entries; shared by the ring and its readers.
#[derive(Debug, Default)]
pub(in crate::audit) struct Newest(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// So many batches more are kept.
    wanted: u32,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    epoch: [u8; 16],
    /// The ordinals of each class.
    held: [Range<u64>; 3],
    /// Oldest first.
    entries: VecDeque<Arc<StoredEntry>>,
}

/// An entry that is stored.
#[derive(Debug)]
pub(in crate::audit) struct StoredEntry {
    pub(in crate::audit) seq: Seq,
    pub(in crate::audit) class: Class,
    pub(in crate::audit) ordinal: u64,
    entry: Entry,
    boot_id: [u8; 16],
    tag: u32,
}

/// What the ring holds, and the newest of it.
#[derive(Debug)]
pub(in crate::audit) struct View {
    pub(in crate::audit) epoch: [u8; 16],
    /// The ordinals of each class.
    pub(in crate::audit) held: [Range<u64>; 3],
    /// Newest first.
    pub(in crate::audit) entries: Vec<Arc<StoredEntry>>,
}

impl Newest {
    /// The ring's newest entries, so many of them. None: they have to be read from the file. From now on they are kept.
    pub(in crate::audit) fn view(&self, entries: u64) -> Option<View> {
        let count = usize::try_from(entries).ok().filter(|&count| count <= ENTRIES)?;
        let mut state = self.lock();
        state.wanted = BATCHES_UNREAD;
        let kept = state.kept.as_ref().filter(|kept| kept.entries.len() >= count)?;
        let entries: Vec<_> = kept.entries.iter().rev().take(count).cloned().collect();
        // In a small ring one class can be given up while others are still new.
        let is_held = |entry: &Arc<StoredEntry>| kept.held[entry.class.index()].contains(&entry.ordinal);
        entries.iter().all(is_held).then(|| View { epoch: kept.epoch, held: kept.held.clone(), entries })
    }

    /// A batch is stored, and this is what the ring holds now.
    pub(super) fn add(&self, run: &Run, held: [Range<u64>; 3], batch: &[Record]) {
        {
            let mut state = self.lock();
            state.wanted = state.wanted.saturating_sub(1);
            if state.wanted == 0 {
                state.kept = None;
                return;
            }
        }
        // Where the batch begins, by what the ring holds after it.
        let mut begin = held.each_ref().map(|held| held.end);
        for entry in batch.iter().filter_map(Record::entry) {
            begin[entry.class.index()] -= 1;
        }
        // Copied while nobody is kept waiting.
        let mut end = held.each_ref().map(|held| held.end);
        let mut stored = Vec::new();
        for record in batch.iter().rev() {
            let Record::Entry(seq, entry, _) = record else { continue };
            if stored.len() == ENTRIES {
                break;
            }
            let (class, Run { boot_id, tag, .. }) = (entry.class, *run);
            end[class.index()] -= 1;
            let (seq, ordinal, entry) = (*seq, end[class.index()], entry.clone());
            stored.push(Arc::new(StoredEntry { seq, class, ordinal, entry, boot_id, tag }));
        }
        let mut state = self.lock();
        // A batch that was stored without being told of would leave a gap: what is before it is of no more use.
        let before = state.kept.take().filter(|kept| kept.held.each_ref().map(|held| held.end) == begin);
        let entries = before.map(|kept| kept.entries).unwrap_or_default();
        let kept = state.kept.insert(Kept { epoch: run.epoch, held, entries });
        kept.entries.extend(stored.into_iter().rev());
        let surplus = kept.entries.len().saturating_sub(ENTRIES);
        kept.entries.drain(..surplus);
    }

    /// It isn't sure any more what the file holds.
    pub(in crate::audit) fn forget(&self) {
        self.lock().kept = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredEntry {
    /// The entry as its row is served.
    pub(in crate::audit) fn served(&self) -> ServedEntry<'_> {
        let Entry { call, class, outcome, response_code, duration_us, calls, span_us } = &self.entry;
        let (actor, timestamp) = (&*call.actor, call.arrival.timestamp_ms);
        // As the row has it.
        let several = *class == Class::Denied && *calls > 1;
        let span_ms = i64::try_from(span_us / 1_000).unwrap_or(i64::MAX);
        ServedEntry {
            id: EntryId::new(timestamp, *class, self.seq, self.tag),
            timestamp,
            user: &actor.user,
            roles: &actor.roles,
            method: &call.method,
            path: &call.path,
            operation_id: call.operation.map_or("", |operation| operation.id),
            source_ip: call.source_ip.to_canonical(),
            response_code: *response_code,
            duration_ms: duration_us / 1_000,
            seq: self.seq,
            class: *class,
            outcome: *outcome,
            permission: call.operation.map(|operation| operation.permission.as_str()),
            token_id: actor.token_id.as_deref(),
            auth_method: actor.auth_method.map(AuthMethod::as_str),
            trace_id: call.trace_id.map(|id| hexadecimal::encode(&id).into()),
            user_agent: call.user_agent.as_deref(),
            forwarded_for: call.forwarded_for.map(|address| address.to_canonical()),
            boot_id: Uuid::from_bytes(self.boot_id),
            monotonic_us: call.arrival.monotonic_us,
            duration_us: *duration_us,
            clock_synced: call.arrival.clock_synced,
            count: several.then_some(*calls),
            last_timestamp: several.then_some(timestamp.saturating_add(span_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Run = Run { number: 1, epoch: [1; 16], boot_id: [2; 16], tag: 3 };

    /// Adds these seqs, all of one class, as if nothing had been evicted yet.
    fn add(newest: &Newest, seqs: Range<u64>) {
        let held = [0..0, 0..seqs.end, 0..0];
        let batch: Vec<_> = seqs.map(|seq| Record::Entry(Seq(seq), Entry::plain(Class::Read), None)).collect();
        newest.add(&RUN, held, &batch);
    }

    fn seqs(newest: &Newest, entries: u64) -> Option<Vec<u64>> {
        newest.view(entries).map(|view| view.entries.iter().map(|entry| entry.seq.0).collect())
    }

    #[test]
    fn what_is_kept_has_no_gap() {
        let newest = Newest::default();
        assert_eq!(seqs(&newest, 1), None);
        add(&newest, 0..10);
        add(&newest, 10..12);
        assert_eq!(seqs(&newest, 4), Some(vec![11, 10, 9, 8]));
        // The one between was stored after all, and nobody said so.
        add(&newest, 20..22);
        assert_eq!(seqs(&newest, 2), Some(vec![21, 20]));
        assert_eq!(seqs(&newest, 3), None);
        newest.forget();
        assert_eq!(seqs(&newest, 1), None);
    }
}
