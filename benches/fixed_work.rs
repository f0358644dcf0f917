//! The same work each time, for instructions to be counted: `fixed_work FOLDER store|commit|page|token|nothing` makes a ring in FOLDER.
//!
//! `store` stores 20,000 entries in batches of 100, `commit` 500 one by one, `page` reads 200 pages of the 2,000 entries it stored
//! first, `token` checks a token 1,000 times. `nothing` is what all of them share: the start, and an empty ring.

mod work;

use std::path::Path;

use nodeaudit::audit::ring::Ring;
use nodeaudit::audit::{Filter, Reader};

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
                reader.search(&Filter::default(), 100, page * 7, |entry| entry.write_json(&mut json))?;
                assert!(!json.is_empty(), "the pages hold entries");
            }
        }
        "token" => {
            let (key, token) = work::token();
            for _ in 0..1_000 {
                // One each: a verifier remembers what it has found right.
                work::verifier(&key).verify(&token, work::NOW_S)?;
            }
        }
        _ => return Err(usage.into()),
    }
    Ok(())
}
