//! What must hold in every order.

use std::time::Duration;

use loom::future::block_on;
use loom::thread;
use nodeaudit::audit::{Class, Seq};
use tokio::sync::oneshot::error::TryRecvError;

use super::queue::Answer;
use super::store::{Store, call, entry, refused};
use super::sync::{self, Kind};

/// The window of a relaxed class.
const WINDOW: Duration = Duration::from_secs(2);
/// More than any window.
const LONG: Duration = Duration::from_mins(1);

/// Runs a model in every order.
pub(super) fn in_every_order(model: impl Fn() + Send + Sync + 'static) {
    in_every_order_of(Kind::Usual, model);
}

pub(super) fn in_every_order_of(kind: Kind, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // More preemptions find hardly more, and take ten times as long each.
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(move || {
        sync::begin(kind);
        model();
    });
}

fn spawn(store: &Store, act: impl FnOnce(&Store) + 'static) -> thread::JoinHandle<()> {
    let store = store.clone();
    thread::spawn(move || act(&store))
}

/// Pushes an entry and waits until it is stored.
fn push_strict(store: &Store) {
    let (given, commit) = store.queue.push_strict(entry(), None, store.place());
    block_on(commit).expect("what was pushed before the end is stored");
    assert!(store.has(given.seq), "answered before it was stored");
}

fn assert_settled(store: &Store) {
    assert_eq!(store.queue.pending(), 0);
    assert_eq!(store.places(), 0, "places that nobody gives back");
}

#[test]
fn a_strict_push_is_answered_and_not_before_its_batch_is_stored() {
    for batch_entries in [1, 8] {
        in_every_order(move || {
            let store = Store::new(batch_entries);
            let writer = spawn(&store, Store::write);
            let other = spawn(&store, push_strict);
            push_strict(&store);
            other.join().unwrap();
            store.queue.close();
            writer.join().unwrap();
            assert_settled(&store);
        });
    }
}

#[test]
fn a_change_happens_after_its_intent_is_stored_and_is_answered_after_its_outcome() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, Store::write);
        let other = spawn(&store, |store| {
            store.queue.push_relaxed(entry(), None, store.place(), WINDOW);
        });
        let place = store.place();
        let (number, commit) = store.queue.push_intent(call());
        block_on(commit).unwrap();
        assert!(store.stored().intents.contains(&number.0));
        let (given, commit) = store.queue.push_strict(entry(), Some(number), place);
        block_on(commit).unwrap();
        assert!(store.has(given.seq));
        other.join().unwrap();
        store.queue.close();
        writer.join().unwrap();
        assert_settled(&store);
    });
}

/// A store for which eight have waited at once: the thread waits for half as many before the next batch.
fn crowded() -> Store {
    let store = Store::new(16);
    for _ in 0..8 {
        drop(store.queue.push_strict(entry(), None, store.place()));
    }
    let batch = store.queue.next_batch().unwrap();
    store.keep(&batch);
    store.queue.settle(batch, Answer::Stored);
    store
}

#[test]
fn who_waits_for_others_goes_on_when_they_have_come() {
    in_every_order(|| {
        let store = crowded();
        let writer = spawn(&store, |store| {
            let batch = store.queue.next_batch().unwrap();
            assert_eq!(batch.records.len(), 4, "no time has passed, and nothing else hurries");
            store.keep(&batch);
            store.queue.settle(batch, Answer::Stored);
        });
        let two = |store: &Store| {
            for _ in 0..2 {
                drop(store.queue.push_strict(entry(), None, store.place()));
            }
        };
        let other = spawn(&store, two);
        two(&store);
        other.join().unwrap();
        writer.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn who_waits_for_others_goes_on_without_them_after_a_moment() {
    in_every_order_of(Kind::Restless, || {
        let store = crowded();
        let writer = spawn(&store, Store::write);
        push_strict(&store);
        store.queue.close();
        writer.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn a_close_and_a_window_that_ends_hurry_who_waits_for_others() {
    in_every_order(|| {
        let store = crowded();
        let writer = spawn(&store, Store::write);
        drop(store.queue.push_strict(entry(), None, store.place()));
        store.queue.close();
        writer.join().unwrap();
        assert_settled(&store);
    });
    in_every_order(|| {
        let store = crowded();
        store.queue.push_relaxed(entry(), None, store.place(), Duration::ZERO);
        drop(store.queue.push_strict(entry(), None, store.place()));
        let batch = store.queue.next_batch().unwrap();
        assert_eq!(batch.records.len(), 2);
        store.queue.settle(batch, Answer::Stored);
    });
}

#[test]
fn a_look_wakes_the_thread_even_if_nothing_is_queued() {
    in_every_order(|| {
        let store = Store::new(8);
        let looker = spawn(&store, |store| store.queue.look());
        let batch = store.queue.next_batch().expect("nobody closes it");
        assert!(batch.records.is_empty());
        store.queue.settle(batch, Answer::Stored);
        looker.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn what_was_not_taken_is_never_answered_as_stored() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, |store| {
            while let Some(batch) = store.queue.next_batch() {
                store.queue.settle(batch, Answer::NotTaken);
            }
        });
        let waiting = |store: &Store| {
            let (_, commit) = store.queue.push_strict(entry(), None, store.place());
            block_on(commit).unwrap_err();
        };
        let other = spawn(&store, waiting);
        waiting(&store);
        other.join().unwrap();
        store.queue.close();
        writer.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn what_was_pushed_before_the_close_is_stored_and_the_rest_is_reported() {
    in_every_order(|| {
        let store = Store::new(1);
        let writer = spawn(&store, Store::write);
        let (first, mut commit) = store.queue.push_strict(entry(), None, store.place());
        let second = store.queue.push_relaxed(entry(), None, store.place(), WINDOW);
        let late = spawn(&store, |store| {
            let (given, mut commit) = store.queue.push_strict(entry(), None, store.place());
            // Whether the close was first is the order's to say.
            let answered = commit.try_recv();
            assert!(answered == Err(TryRecvError::Empty) || (answered.is_ok() && store.has(given.seq)));
        });
        store.queue.close();
        writer.join().unwrap();
        assert!(store.has(first.seq) && store.has(second.seq));
        assert_eq!(commit.try_recv(), Ok(()));
        late.join().unwrap();
        let unsaved = 3 - store.stored().seqs.len() as u64;
        assert_eq!(store.queue.pending(), unsaved);
        assert_eq!(store.places() as u64, unsaved);
    });
}

#[test]
fn nobody_waits_for_a_queue_that_is_gone() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, Store::write);
        let other = spawn(&store, |store| store.queue.close());
        let (given, commit) = store.queue.push_strict(entry(), None, store.place());
        other.join().unwrap();
        writer.join().unwrap();
        let is_stored = store.has(given.seq);
        drop(store);
        assert_eq!(block_on(commit).is_ok(), is_stored);
    });
}

#[test]
fn a_writer_that_dies_leaves_nobody_waiting_who_came_before() {
    in_every_order(|| {
        let store = Store::new(8);
        let (_, commit) = store.queue.push_strict(entry(), None, store.place());
        let writer = spawn(&store, |store| store.queue.fail("it panicked"));
        block_on(commit).unwrap_err();
        writer.join().unwrap();
        assert_eq!(store.queue.pending(), 1);
        store.queue.health().unwrap_err();
    });
}

#[test]
fn what_the_writer_does_is_seen_from_outside_until_it_waits() {
    in_every_order(|| {
        let store = Store::new(8);
        assert_eq!(store.queue.busy_for(), None);
        let (_, commit) = store.queue.push_strict(entry(), None, store.place());
        let batch = store.queue.next_batch().unwrap();
        assert!(store.queue.busy_for().is_some(), "it stores");
        store.queue.settle(batch, Answer::Stored);
        block_on(commit).unwrap();
        assert!(store.queue.busy_for().is_some(), "it may be moving the WAL");
        store.queue.close();
        assert!(store.queue.next_batch().is_none());
        assert_eq!(store.queue.busy_for(), None);
    });
}

#[test]
fn a_flush_returns_when_all_before_it_is_stored() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, Store::write);
        let flush = |store: &Store| {
            let given = store.queue.push_relaxed(entry(), None, store.place(), WINDOW);
            if let Some(commit) = store.queue.push_flush() {
                block_on(commit).unwrap();
            }
            assert!((1..=given.seq.0).all(|seq| store.has(Seq(seq))));
        };
        let other = spawn(&store, flush);
        flush(&store);
        other.join().unwrap();
        assert_eq!(store.queue.pending(), 0);
        assert!(store.queue.push_flush().is_none());
        store.queue.close();
        writer.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn a_relaxed_push_is_stored_when_its_window_has_passed_and_nothing_else_happens() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, |store| store.write_entries(2));
        let time = thread::spawn(|| sync::pass(LONG + WINDOW));
        // The later one has to be on its way first.
        store.queue.push_relaxed(entry(), None, store.place(), LONG);
        store.queue.push_relaxed(entry(), None, store.place(), WINDOW);
        time.join().unwrap();
        sync::pass(WINDOW);
        writer.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn a_full_batch_does_not_wait_for_its_window() {
    in_every_order(|| {
        let store = Store::new(2);
        let writer = spawn(&store, |store| store.write_entries(2));
        store.queue.push_relaxed(entry(), None, store.place(), LONG);
        store.queue.push_relaxed(entry(), None, store.place(), LONG);
        writer.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn what_a_batch_has_no_room_for_goes_with_the_next_one() {
    in_every_order(|| {
        let store = Store::new(2);
        let writer = spawn(&store, Store::write);
        for _ in 0..2 {
            store.queue.push_relaxed(entry(), None, store.place(), LONG);
        }
        push_strict(&store);
        store.queue.close();
        writer.join().unwrap();
        assert_settled(&store);
    });
}

#[test]
fn there_is_a_place_for_each_entry_that_is_pending() {
    for batch_entries in [1, 2] {
        in_every_order(move || {
            let store = Store::new(batch_entries);
            let writer = spawn(&store, Store::write);
            let other = spawn(&store, |store| {
                store.queue.push_relaxed(entry(), None, store.place(), WINDOW);
                assert!(store.queue.pending() <= store.places() as u64);
            });
            store.queue.push_relaxed(entry(), None, store.place(), WINDOW);
            let pending = store.queue.pending();
            let places = store.places() as u64;
            // Those of a batch that is being settled are given back after it is counted as settled.
            assert!((pending..=2).contains(&places), "{pending} pending, {places} places");
            other.join().unwrap();
            store.queue.close();
            writer.join().unwrap();
            assert_settled(&store);
        });
    }
}

#[test]
fn a_refused_call_that_joins_an_entry_is_counted_and_answered_after_it_is_stored() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, Store::write);
        let push = |store: &Store| {
            let (given, commit) = store.queue.push_strict(refused(), None, store.place());
            block_on(commit).unwrap();
            assert!(store.has(given.seq), "answered before it was stored");
        };
        let other = spawn(&store, push);
        store.queue.push_relaxed(refused(), None, store.place(), WINDOW);
        push(&store);
        other.join().unwrap();
        store.queue.close();
        writer.join().unwrap();
        assert_eq!(store.stored().calls, 3, "{:?}", store.stored());
        assert_settled(&store);
    });
}

#[test]
fn dropped_calls_are_counted_once() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, Store::write);
        let other = spawn(&store, |store| {
            store.queue.count_dropped(Class::Denied, 1);
            // In this order: in between, the count may move from one to the other.
            let waiting = store.queue.dropped()[2];
            assert!(waiting + store.stored().dropped[2] >= 1, "lost between queue and store");
        });
        store.queue.count_dropped(Class::Denied, 1);
        push_strict(&store);
        store.queue.count_dropped(Class::Change, 1);
        other.join().unwrap();
        store.queue.close();
        writer.join().unwrap();
        assert_eq!(store.stored().dropped, [1, 0, 2]);
        assert_eq!(store.queue.dropped(), [0; 3]);
        assert_settled(&store);
    });
}

#[test]
fn dropped_calls_are_stored_without_an_entry() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = spawn(&store, |store| {
            let batch = store.queue.next_batch().unwrap();
            store.keep(&batch);
            store.queue.settle(batch, Answer::Stored);
        });
        store.queue.count_dropped(Class::Read, 1);
        sync::pass(LONG);
        writer.join().unwrap();
        assert_eq!((store.stored().dropped, store.queue.dropped()), ([0, 1, 0], [0; 3]));
    });
}

#[test]
fn a_batch_is_tried_again_and_a_close_does_not_cut_it_short() {
    in_every_order_of(Kind::Restless, || {
        let store = Store::new(8);
        let writer = spawn(&store, |store| {
            while let Some(batch) = store.queue.next_batch() {
                store.queue.report(Some("the disk is full".to_owned()));
                store.queue.pause(WINDOW);
                store.keep(&batch);
                store.queue.report(None);
                store.queue.settle(batch, Answer::Stored);
            }
        });
        let (given, commit) = store.queue.push_strict(entry(), None, store.place());
        store.queue.close();
        block_on(commit).unwrap();
        assert!(store.has(given.seq));
        writer.join().unwrap();
        assert_settled(&store);
    });
}
