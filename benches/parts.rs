//! The inner parts, one by one: `cargo bench --bench parts [NAME]`.
//!
//! Commits are synced to whatever `TMPDIR` lies on: compare them on one machine only.

#![allow(missing_docs, reason = "criterion's macros make functions without them")]

mod work;

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nodeaudit::audit::ring::Ring;
use nodeaudit::audit::{Filter, Order, Reader, ServedEntry};
use nodeaudit::auth::{Grant, Keys, RevokedTokens, Roles, Rules, SigningKey, TokenIssuer, TokenVerifier};
use work::STARTED_MS;

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
        let measure = |entry: &ServedEntry<'_>| bencher.iter(|| serde_json::to_vec(entry).is_ok());
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
                let write =
                    |entry: &ServedEntry<'_>| serde_json::to_writer(&mut json, entry).expect("an entry can be written");
                reader.scan_step(&mut scan, 500, write).expect("it reads");
                bytes += json.len();
            }
            bytes
        });
    });
}

fn tokens(criterion: &mut Criterion) {
    let key = SigningKey::from_secret(&[7; 32]).expect("a key");
    let grant = Grant {
        subject: "bench@example.com".to_owned(),
        roles: vec!["admin".to_owned()],
        lifetime_s: 3_600,
        ..Grant::default()
    };
    let now_s = STARTED_MS / 1_000;
    let token = TokenIssuer::new(&key).issue(&grant, now_s).expect("a token");
    let verifier = || {
        let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
        let known = Roles::new(&BTreeMap::new());
        TokenVerifier::new(Keys::only(key.verifying()), known, rules, RevokedTokens::default())
    };
    let mut group = criterion.benchmark_group("token");
    group.bench_function("first", |bencher| {
        bencher.iter_batched(verifier, |verifier| verifier.verify(&token, now_s).is_ok(), BatchSize::SmallInput);
    });
    let verifier = verifier();
    group.bench_function("remembered", |bencher| bencher.iter(|| verifier.verify(&token, now_s).is_ok()));
}

criterion_group!(parts, commits, reads, tokens);
criterion_main!(parts);
