//! The same work each time, for instructions to be counted: `fixed_work FOLDER store|commit|page|token|nothing` makes a ring in FOLDER.
//!
//! `store` stores 20,000 entries in batches of 100, `commit` 500 one by one, `page` reads 200 pages of the 2,000 entries it stored
//! first, `token` checks a token 1,000 times. `nothing` is what all of them share: the start, and an empty ring.

#[path = "../benches/work/mod.rs"]
mod work;

use std::collections::BTreeMap;
use std::path::Path;

use nodeaudit::audit::ring::Ring;
use nodeaudit::audit::{Filter, Reader, ServedEntry};
use nodeaudit::auth::{Grant, Keys, RevokedTokens, Roles, Rules, SigningKey, TokenIssuer, TokenVerifier};
use work::STARTED_MS;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: fixed_work FOLDER store|commit|page|token|nothing";
    let (folder, what) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let options = work::options(Path::new(&folder), 10_000);
    let mut ring = Ring::open(&options)?;
    match what.as_str() {
        "nothing" => {}
        "store" => work::store(&mut ring, 20_000, 100)?,
        "commit" => work::store(&mut ring, 500, 1)?,
        "page" => {
            work::store(&mut ring, 2_000, 100)?;
            let reader = Reader::new(&options.state_dir, ring.gate());
            for page in 0..200 {
                let mut json = Vec::new();
                let write = |entry: &ServedEntry<'_>| {
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
