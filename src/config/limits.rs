//! `[proxy]` and `[limits]`: whom a call counts for, and how many he may make.

use serde::{Deserialize, Serialize};

use crate::auth::ForwardedHeader;
use crate::network::Network;

/// `[proxy]`: who may speak for others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Addresses and networks of proxies that are believed when they name their clients. Default: none.
    pub trusted: Vec<Network>,
    /// The one header they do that in: `x-forwarded-for` or `forwarded` (RFC 7239). Default `x-forwarded-for`.
    pub header: ForwardedHeader,
}

/// `[limits]`: how often one may call. A rate of 0 is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Calls a second from one address, 0 to 1000000; an IPv6 network of 64 bits is one address. Default 200.
    pub peer_per_s: u64,
    /// Calls that it may make at once after a pause, 1 to 1000000. Default 1000.
    pub peer_burst: u64,
    /// Calls a second of one user, 0 to 1000000. Default 200.
    pub actor_per_s: u64,
    /// Calls that he may make at once after a pause, 1 to 1000000. Default 1000.
    pub actor_burst: u64,
    /// Refused credentials a minute from one address, 0 to 1000000. Default 30.
    pub failures_per_min: u64,
    /// Refused credentials that it may send at once after a pause, 1 to 1000000. Default 20.
    pub failures_burst: u64,
    /// Addresses, and users, that are remembered, 16 to 1000000. Default 4096.
    pub tracked: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            peer_per_s: 200,
            peer_burst: 1_000,
            actor_per_s: 200,
            actor_burst: 1_000,
            failures_per_min: 30,
            failures_burst: 20,
            tracked: 4_096,
        }
    }
}
