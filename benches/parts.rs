//! The inner parts, one by one: `cargo bench --bench parts [NAME]`.
//!
//! Commits are synced to whatever `TMPDIR` lies on: compare them on one machine only.

#![allow(missing_docs, reason = "criterion's macros make functions without them")]

mod work;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nodeaudit::audit::ring::Ring;
use nodeaudit::audit::{Filter, Order, Reader, ServedEntry};
use nodeaudit::auth::TokenVerifier;

/// Entries of the ring that is read.
const ENTRIES: u64 = 100_000;

/// Entries of a page.
const PAGE: u64 = 20;

fn commits(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ring = Ring::open(&work::options(folder.path(), 10_000)).expect("a ring");
    // It has gone round: each commit evicts as much as it stores.
    work::store(&mut ring, 20_000, 100).expect("it stores");
    let mut group = criterion.benchmark_group("commit");
    for size in [1, 10, 100] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| work::store(&mut ring, size, size).expect("it stores"));
        });
    }
}

fn reads(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = work::options(folder.path(), ENTRIES);
    let mut ring = Ring::open(&options).expect("a ring");
    work::store(&mut ring, ENTRIES, 1_000).expect("it stores");
    let reader = Reader::new(&options.state_dir, ring.gate());
    criterion.bench_function("entry as JSON", |bencher| {
        let mut json = Vec::new();
        let measure = |entry: &ServedEntry<'_>| {
            bencher.iter(|| {
                json.clear();
                entry.write_json(black_box(&mut json));
            });
        };
        reader.search(&Filter::default(), 1, 0, measure).expect("it reads");
    });

    let mut json = Vec::new();
    let mut page = |filter: &Filter, offset| {
        json.clear();
        let write = |entry: &ServedEntry<'_>| serde_json::to_writer(&mut json, entry).expect("an entry can be written");
        reader.search(filter, PAGE, offset, write).expect("it reads");
        black_box(json.len())
    };

    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Elements(PAGE));
    for (name, offset) in [("first", 0), ("last", ENTRIES - PAGE)] {
        group.bench_function(name, |bencher| bencher.iter(|| page(&Filter::default(), offset)));
    }
    group.finish();

    let mut group = criterion.benchmark_group("scan");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ENTRIES));
    let seldom = Filter { user: Some("seldom@example.com".to_owned()), ..Filter::default() };
    group.bench_function("one in a thousand", |bencher| bencher.iter(|| page(&seldom, 0)));
    group.bench_function("export", |bencher| {
        bencher.iter(|| {
            let mut scan = reader.scan(&Filter::default(), Order::OldestFirst).expect("it reads");
            let mut bytes = 0;
            while !scan.is_done() {
                let mut json = Vec::new();
                reader.scan_step(&mut scan, 500, |entry| entry.write_json(&mut json)).expect("it reads");
                bytes += json.len();
            }
            bytes
        });
    });
}

fn tokens(criterion: &mut Criterion) {
    let (key, token) = work::token();
    let mut group = criterion.benchmark_group("token");
    group.bench_function("first", |bencher| {
        let check = |verifier: TokenVerifier| verifier.verify(&token, work::NOW_S).is_ok();
        bencher.iter_batched(|| work::verifier(&key), check, BatchSize::SmallInput);
    });
    let verifier = work::verifier(&key);
    group.bench_function("remembered", |bencher| bencher.iter(|| verifier.verify(&token, work::NOW_S).is_ok()));
}

criterion_group!(parts, commits, reads, tokens);
criterion_main!(parts);
