//! The same work each time, for instructions to be counted: `fixed_work FOLDER store|commit|page|token|nothing` makes a ring in FOLDER.
//!
//! `store` stores 20,000 entries in batches of 100, `commit` 500 one by one, `page` reads 200 pages of the 2,000 entries it stored
//! first, `token` checks a token 1,000 times. `nothing` is what all of them share: the start, and an empty ring.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use nodeaudit::audit::ring::{Record, Ring, RingOptions};
use nodeaudit::audit::{Arrival, Call, Class, Entry, Filter, Outcome, Reader, Seq};
use nodeaudit::auth::{
    Actor, AuthMethod, Grant, Keys, RevokedTokens, Roles, Rules, SigningKey, TokenIssuer, TokenVerifier,
};

const STARTED_MS: i64 = 1_700_000_000_000;

fn record(seq: u64) -> Record {
    let call = Call {
        arrival: Arrival {
            timestamp_ms: STARTED_MS + i64::try_from(seq).expect("seqs are small here"),
            monotonic_us: 1,
            clock_synced: true,
        },
        method: "GET".to_owned(),
        path: "/node/hostname".to_owned(),
        operation: None,
        actor: Arc::new(Actor {
            user: "bench@example.com".to_owned(),
            roles: "admin".to_owned(),
            auth_method: Some(AuthMethod::Bearer),
            ..Actor::default()
        }),
        source_ip: Ipv4Addr::LOCALHOST.into(),
        trace_id: None,
        user_agent: Some("curl/8".to_owned()),
        forwarded_for: None,
    };
    let (class, outcome) = (Class::Read, Outcome::Completed);
    Record::Entry(
        Seq(seq),
        Entry { call, class, outcome, response_code: 200, duration_us: 50, calls: 1, span_us: 0 },
        None,
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: fixed_work FOLDER store|commit|page|token|nothing";
    let (folder, work) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let options = RingOptions {
        state_dir: Path::new(&folder).to_owned(),
        max_entries: 10_000,
        max_bytes: 16 << 20,
        guarantee_percent: [40, 30, 20],
        boot_id: uuid::Uuid::from_u128(1),
        started_ms: STARTED_MS,
    };
    let mut ring = Ring::open(&options)?;
    let mut store = |entries: u64, batch: u64| -> Result<(), Box<dyn std::error::Error>> {
        for first in (1..=entries).step_by(usize::try_from(batch)?) {
            ring.store(&(first..first + batch).map(record).collect::<Vec<_>>())?;
        }
        Ok(())
    };
    match work.as_str() {
        "nothing" => {}
        "store" => store(20_000, 100)?,
        "commit" => store(500, 1)?,
        "page" => {
            store(2_000, 100)?;
            let reader = Reader::new(&options.state_dir, ring.gate());
            for page in 0..200 {
                let mut json = Vec::new();
                let write = |entry: &nodeaudit::audit::ServedEntry<'_>| {
                    serde_json::to_writer(&mut json, entry).expect("an entry is JSON");
                };
                reader.search(&Filter::default(), 100, page * 7, write)?;
                assert!(!json.is_empty(), "the pages hold entries");
            }
        }
        "token" => {
            let key = SigningKey::from_secret(&[7; 32])?;
            let grant = Grant {
                subject: "bench@example.com".to_owned(),
                roles: vec!["admin".to_owned()],
                lifetime_s: 3_600,
                ..Grant::default()
            };
            let now_s = STARTED_MS / 1_000;
            let token = TokenIssuer::new(&key).issue(&grant, now_s)?;
            let (known, keys) = (Roles::new(&BTreeMap::new()), Keys::only(key.verifying()));
            let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
            for _ in 0..1_000 {
                // One each: a verifier remembers what it has found right.
                let verifier = TokenVerifier::new(keys.clone(), known.clone(), rules.clone(), RevokedTokens::default());
                verifier.verify(&token, now_s)?;
            }
        }
        _ => return Err(usage.into()),
    }
    Ok(())
}
