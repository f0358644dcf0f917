//! The models find what is broken: each of these must fail.

use loom::future::block_on;
use loom::thread;

use super::model::{in_every_order, in_every_order_of};
use super::queue::Answer;
use super::store::{Store, entry};
use super::sync::Kind;

fn a_strict_push(store: &Store) {
    let (given, commit) = store.queue.push_strict(entry(), None, store.place());
    block_on(commit).unwrap();
    assert!(store.has(given.seq), "answered before it was stored");
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_queue_that_wakes_nobody_is_found() {
    in_every_order_of(Kind::Mute, || {
        let store = Store::new(8);
        let writer = store.clone();
        let writer = thread::spawn(move || writer.write());
        a_strict_push(&store);
        store.queue.close();
        writer.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "answered before it was stored")]
fn an_answer_before_the_store_is_found() {
    in_every_order(|| {
        let store = Store::new(8);
        let writer = store.clone();
        thread::spawn(move || {
            let batch = writer.queue.next_batch().unwrap();
            writer.queue.settle(batch, Answer::Stored);
        });
        a_strict_push(&store);
    });
}
