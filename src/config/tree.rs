//! Every setting, with its unit, its range and its default.
//!
//! The defaults are in the `Default` implementations and nowhere else; ranges are enforced in `check`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::limits::{LimitsConfig, ProxyConfig};
use super::socket::SocketPath;
use super::tls::TlsConfig;
use crate::audit::{Durability, OnStoreFailure};
use crate::auth::Permission;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the ring and the agent's own key live: an absolute path. Default `/var/lib/nodeaudit`.
    pub state_dir: PathBuf,
    /// `[server]`
    pub server: ServerConfig,
    /// `[tls]`
    pub tls: TlsConfig,
    /// `[proxy]`
    pub proxy: ProxyConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[auth]`
    pub auth: AuthConfig,
    /// `[audit]`
    pub audit: AuditConfig,
    /// `[host]`
    pub host: HostConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// `[server]`: where the agent listens, and the limits of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// IP address and port; port 0 lets the kernel choose one. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Whether an address that is not a loopback one is listened on without TLS. Default `refuse`.
    pub plaintext: Plaintext,
    /// The Unix socket: an absolute path, nothing (an empty string), or `auto`, which is `nodeaudit.sock` in the folder that systemd
    /// makes for the agent and nothing where there is none. Default `auto`.
    pub socket: SocketPath,
    /// The group whose members may read the audit through the socket without a token, beside root. Default: none (an empty string).
    pub socket_group: String,
    /// What stands before every path, such as `/api/v1`: nothing, or a `/` and a segment, once or more. Default: nothing.
    pub base_path: String,
    /// Worker threads, 0 to 64; 0 is one for each core. Default 0.
    pub workers: usize,
    /// Bytes of a request's body, 1024 to 1048576. Default 65536.
    pub max_body_bytes: usize,
    /// Connections open at a time, for all workers together, 1 to 100000. Default 2048.
    pub max_connections: usize,
    /// Connections that one peer may have open, 1 to 100000; an IPv6 network of 64 bits is one peer. Default 512.
    pub max_connections_per_peer: usize,
    /// Seconds that open calls get to end when the agent stops, 0 to 300. Default 5.
    pub shutdown_timeout_s: u64,
    /// Milliseconds in which the head of a request must arrive, 100 to 60000. Default 5000.
    pub client_timeout_ms: u64,
    /// Milliseconds in which the body of a request must arrive, 100 to 600000. Default 10000.
    pub body_timeout_ms: u64,
    /// Milliseconds in which a peer must take some 40 KiB of what is written to it, 100 to 600000. Default 10000.
    pub write_timeout_ms: u64,
    /// Seconds in which an operation must have its answer, 1 to 3600. Default 30.
    pub handler_timeout_s: u64,
    /// Seconds that an idle connection stays open, 1 to 3600. Default 10.
    pub keep_alive_s: u64,
    /// Streams of `/audit` open at a time, 0 to 10000. Default 64.
    pub max_streams: usize,
    /// Seconds after which a stream ends, 1 to 86400; its reader goes on with another one. Default 3600.
    pub stream_max_s: u64,
}

/// What happens to calls that anyone on their way could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// Without TLS the agent listens on a loopback address only.
    Refuse,
    /// It listens where it is told to: the network is trusted, or something else encrypts.
    Allow,
}

/// `[auth]`: whose tokens are accepted, and what roles stand for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Public keys of those who issue tokens: absolute paths of PEM files, whose `kid` is the file's name without what follows the last
    /// dot, of JSON Web Key Sets, or of folders with files `*.pem`, `*.json` and `*.jwks`. Default: none.
    pub keys: Vec<PathBuf>,
    /// The file with a secret that tokens are signed with: an absolute path. Default: none (an empty string), which is `token.key`
    /// in the state folder, made with a random secret at the first start; or no secret at all where `keys` names keys.
    #[serde(serialize_with = "empty_for_none", deserialize_with = "none_for_empty")]
    pub key_file: Option<PathBuf>,
    /// What callers without a token may do; only `health:read` can be given. Default: nothing.
    pub anonymous_permissions: Vec<Permission>,
    /// Seconds that the clocks of a token's issuer and of this node may differ, 0 to 5. Default 5.
    pub leeway_s: u8,
    /// Seconds from a token's `iat` to its `exp` at most, to 31536000; 0: no limit, and no `iat` needed. Default 604800 (7 days).
    pub max_lifetime_s: u32,
    /// Whose tokens are accepted, by `iss`. Default: anybody's who has the key.
    pub issuers: Vec<String>,
    /// The names that tokens for this node have in `aud`: its own, or that of a fleet. At least one where `keys` names keys. Default:
    /// none, and a token that names anybody is refused.
    pub audiences: Vec<String>,
    /// The file with the IDs (`jti`) of tokens that are called back: an absolute path; with it, a token without an ID is refused.
    /// Default: none (an empty string).
    #[serde(serialize_with = "empty_for_none", deserialize_with = "none_for_empty")]
    pub revoked_tokens: Option<PathBuf>,
    /// `[auth.roles]`: names of roles, each 1 to 64 bytes, and what each holds, beside the built-in ones; one of a built-in
    /// name replaces that. Default: none.
    pub roles: BTreeMap<String, Vec<Permission>>,
}

/// `[audit]`: how much the ring holds, and how soon an entry is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Entries in the ring, 100 to 100000000. Default 100000.
    pub max_entries: u64,
    /// Bytes of the ring's files, 1048576 (1 MiB) to 1099511627776 (1 TiB). Default 67108864 (64 MiB).
    pub max_bytes: u64,
    /// Calls between arrival and stable storage, kept in memory, 64 to 65536; where no more fit, calls wait or are refused. Default 4096.
    pub max_pending: usize,
    /// Refused calls that have entries of their own between two commits, 16 to 4096; of further ones, those that are alike are
    /// counted in one entry. Default 256.
    pub denied_entries: usize,
    /// Whether calls that change nothing are served while the ring can't be written. Default `refuse`: no call goes unrecorded.
    pub on_store_failure: OnStoreFailure,
    /// `[audit.change]`: authorised calls that can change the node. Default strict, 40 percent.
    pub change: ClassConfig,
    /// `[audit.read]`: authorised calls that can't. Default relaxed, 30 percent.
    pub read: ClassConfig,
    /// `[audit.denied]`: calls of nobody in particular: refused, malformed, anonymous. Default relaxed, 20 percent.
    pub denied: ClassConfig,
}

/// `[audit.<class>]`: one retention class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassConfig {
    /// When a response may leave: see [`Durability`].
    pub durability: Durability,
    /// Milliseconds of entries that a power cut can take from a relaxed class, 10 to 60000. Default 2000.
    pub window_ms: u64,
    /// Percent of the ring that no other class can take from this one, 0 to 90.
    ///
    /// The three together are at most 90: the rest is where classes grow beyond theirs and what batches are evicted from.
    pub guarantee: u8,
}

/// `[host]`: the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The root of the node's file tree, for an agent in a container: an absolute path. Default `/`.
    pub root: PathBuf,
}

/// `[log]`: diagnostics for the journal, never audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// The least severe message that is written; the variable `RUST_LOG` wins. Default `info`.
    pub level: LogLevel,
}

/// Severities of the log, the most severe one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the `log` crate")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Config {
    /// The keys, as `audit.max_entries`, whose values are not the same in both.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let tree = |config| Table::try_from(config).expect("a configuration is a TOML table");
        let mut found = Vec::new();
        compare(&tree(self), &tree(other), "", &mut found);
        found
    }

    /// The file with the secret that tokens are signed with, and whether the agent makes it where it is missing. None where the node
    /// has public keys only: it can't sign a token then, and nor can who steals it.
    pub fn key_file(&self) -> Option<(PathBuf, KeyOrigin)> {
        match &self.auth.key_file {
            Some(path) => Some((path.clone(), KeyOrigin::Operator)),
            None if self.auth.keys.is_empty() => Some((self.state_dir.join("token.key"), KeyOrigin::Agent)),
            None => None,
        }
    }
}

/// Who makes the signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The operator: a missing file is an error.
    Operator,
    /// The agent, at its first start.
    Agent,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/nodeaudit".into(),
            server: ServerConfig::default(),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            limits: LimitsConfig::default(),
            auth: AuthConfig::default(),
            audit: AuditConfig::default(),
            host: HostConfig { root: "/".into() },
            log: LogConfig { level: LogLevel::Info },
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            plaintext: Plaintext::Refuse,
            socket: SocketPath::Auto,
            socket_group: String::new(),
            base_path: String::new(),
            workers: 0,
            max_body_bytes: 65_536,
            max_connections: 2_048,
            max_connections_per_peer: 512,
            shutdown_timeout_s: 5,
            client_timeout_ms: 5_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 10_000,
            handler_timeout_s: 30,
            keep_alive_s: 10,
            max_streams: 64,
            stream_max_s: 3_600,
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            key_file: None,
            anonymous_permissions: Vec::new(),
            leeway_s: 5,
            max_lifetime_s: 604_800,
            issuers: Vec::new(),
            audiences: Vec::new(),
            revoked_tokens: None,
            roles: BTreeMap::new(),
        }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        let class = |durability, guarantee| ClassConfig { durability, window_ms: 2_000, guarantee };
        Self {
            max_entries: 100_000,
            max_bytes: 64 << 20,
            max_pending: 4_096,
            denied_entries: 256,
            on_store_failure: OnStoreFailure::Refuse,
            change: class(Durability::Strict, 40),
            read: class(Durability::Relaxed, 30),
            denied: class(Durability::Relaxed, 20),
        }
    }
}

/// Adds the keys below `above` whose values differ. A table in one tree and not in the other counts as one key.
fn compare(one: &Table, other: &Table, above: &str, found: &mut Vec<String>) {
    let missing_here = other.keys().filter(|name| !one.contains_key(*name));
    for name in one.keys().chain(missing_here) {
        match (one.get(name), other.get(name)) {
            (Some(Value::Table(one)), Some(Value::Table(other))) => {
                compare(one, other, &format!("{above}{name}."), found);
            }
            (one, other) if one != other => found.push(format!("{above}{name}")),
            _ => {}
        }
    }
}

/// TOML has no null; so that every key can be shown with its default, an empty path stands for none.
#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
pub(super) fn empty_for_none<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().unwrap_or("".as_ref()).serialize(serializer)
}

pub(super) fn none_for_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_differ_in_the_keys_that_have_other_values() {
        let (one, mut other) = (Config::default(), Config::default());
        assert!(one.differences(&other).is_empty());
        other.server.workers = 3;
        other.audit.read.window_ms = 10;
        other.auth.roles.insert("operator".to_owned(), Vec::new());
        let keys = ["audit.read.window_ms", "auth.roles.operator", "server.workers"];
        for mut found in [one.differences(&other), other.differences(&one)] {
            found.sort();
            assert_eq!(found, keys);
        }
    }
}
