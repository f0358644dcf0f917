//! Rings, entries and tokens to measure with: the same each time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use nodeaudit::audit::ring::{Record, Ring, RingError, RingOptions};
use nodeaudit::audit::{Arrival, Call, Class, Entry, Outcome, Seq};
use nodeaudit::auth::{
    Actor, AuthMethod, Grant, Keys, RevokedTokens, Roles, Rules, SigningKey, TokenIssuer, TokenVerifier,
};

/// When tokens are issued and checked, in seconds since 1970.
pub(crate) const NOW_S: i64 = 1_700_000_000;

/// When the first entry's call arrived, in milliseconds since 1970.
const STARTED_MS: i64 = NOW_S * 1_000;

/// A ring of so many entries in a folder that is there.
pub(crate) fn options(folder: &Path, max_entries: u64) -> RingOptions {
    RingOptions {
        state_dir: folder.to_owned(),
        max_entries,
        max_bytes: (max_entries * 512).max(16 << 20),
        guarantee_percent: [40, 30, 20],
        boot_id: uuid::Uuid::from_u128(1),
        started_ms: STARTED_MS,
    }
}

/// A reading of the host name. One in a thousand is by another user than the others.
pub(crate) fn record(seq: u64) -> Record {
    let user = if seq.is_multiple_of(1_000) { "seldom@example.com" } else { "bench@example.com" };
    let call = Call {
        arrival: Arrival {
            timestamp_ms: STARTED_MS + i64::try_from(seq).expect("seqs are small here"),
            monotonic_us: 1,
            clock_synced: true,
        },
        method: "GET".into(),
        path: "/node/hostname".into(),
        operation: None,
        actor: Arc::new(Actor {
            user: user.to_owned(),
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

/// Stores so many entries more, in batches.
pub(crate) fn store(ring: &mut Ring, entries: u64, batch: u64) -> Result<(), RingError> {
    let first = ring.last_seq()?.0 + 1;
    for first in (first..first + entries).step_by(usize::try_from(batch).expect("batches are small")) {
        ring.store(&(first..first + batch).map(record).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// A key, and a token that it has signed.
pub(crate) fn token() -> (SigningKey, String) {
    let key = SigningKey::from_secret(&[7; 32]).expect("the secret is long enough");
    let grant = Grant {
        subject: "bench@example.com".to_owned(),
        roles: vec!["admin".to_owned()],
        lifetime_s: 3_600,
        ..Grant::default()
    };
    let token = TokenIssuer::new(&key).issue(&grant, NOW_S).expect("the grant is in order");
    (key, token)
}

/// One that has seen no token: it remembers what it has found right.
pub(crate) fn verifier(key: &SigningKey) -> TokenVerifier {
    let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
    TokenVerifier::new(Keys::only(key.verifying()), Roles::new(&BTreeMap::new()), rules, RevokedTokens::default())
}
