//! Who is let in at all, before it matters what he may do: limits of calls by address and by user, and of refused credentials.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::limit::Limit;
use super::{Actor, Client, Refusal, TrustedProxies};

/// Limits, and whom calls count for.
#[derive(Debug)]
pub struct Admission {
    proxies: TrustedProxies,
    peers: Limit<IpAddr>,
    actors: Limit<String>,
    failures: Limit<IpAddr>,
}

/// What the limits are: calls, and how many at once. No calls: no limit.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of one address, each second.
    pub peer_per_s: (u64, u64),
    /// Of one user, each second.
    pub actor_per_s: (u64, u64),
    /// Of one address' refused credentials, each minute.
    pub failures_per_min: (u64, u64),
    /// So many addresses, and users, are remembered.
    pub tracked: usize,
}

impl Admission {
    /// Nobody has called yet.
    pub fn new(proxies: TrustedProxies, rates: Rates) -> Self {
        let Rates { peer_per_s, actor_per_s, failures_per_min, tracked } = rates;
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        Self {
            proxies,
            peers: Limit::new(peer_per_s.0, second, peer_per_s.1, tracked),
            actors: Limit::new(actor_per_s.0, second, actor_per_s.1, tracked),
            failures: Limit::new(failures_per_min.0, minute, failures_per_min.1, tracked),
        }
    }

    /// The proxies that are believed.
    pub const fn proxies(&self) -> &TrustedProxies {
        &self.proxies
    }

    /// Counts a call before its credential is looked at.
    pub fn of_client(&self, client: &Client, now: Instant) -> Result<(), Refusal> {
        self.peers.count(&client.counted(), now).map_err(|wait| too_many("this address calls", wait))
    }

    /// Counts a call whose credential was looked at. One that is good is let in however many bad ones came from that address: who
    /// shares it with someone who guesses is not locked out.
    pub fn of_actor(&self, client: &Client, actor: &Actor, now: Instant) -> Result<(), Refusal> {
        if actor.refused.is_some() {
            let counted = self.failures.count(&client.counted(), now);
            return counted.map_err(|wait| too_many("credentials from this address are refused", wait));
        }
        if actor.is_anonymous() {
            return Ok(());
        }
        self.actors.count(actor.user.as_str(), now).map_err(|wait| too_many("this user calls", wait))
    }
}

fn too_many(what: &'static str, wait: Duration) -> Refusal {
    // Whole seconds, and no caller comes a moment too early (RFC 9110, section 10.2.3).
    Refusal::TooMany { what, retry_after_s: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) }
}
