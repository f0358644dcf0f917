//! `[tls]` with its defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tree::{empty_for_none, none_for_empty};

/// `[tls]`: what the agent proves to callers, and they to it. With certificate and key it speaks TLS and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The file with the certificate and those that lead to its issuer, in PEM: an absolute path. Default: none, no TLS.
    #[serde(serialize_with = "empty_for_none", deserialize_with = "none_for_empty")]
    pub certificate: Option<PathBuf>,
    /// The file with the certificate's private key, in PEM: an absolute path. Default: none, no TLS.
    #[serde(serialize_with = "empty_for_none", deserialize_with = "none_for_empty")]
    pub key: Option<PathBuf>,
    /// The oldest version that is spoken. Default `1.2`.
    pub min_version: TlsVersion,
    /// Whether callers show certificates. Default `off`.
    pub client_auth: ClientAuth,
    /// The file with the authorities whose certificates callers may show, in PEM: an absolute path. Default: none.
    #[serde(serialize_with = "empty_for_none", deserialize_with = "none_for_empty")]
    pub client_ca: Option<PathBuf>,
    /// Milliseconds in which the handshake must be done, 100 to 60000. Default 5000.
    pub handshake_timeout_ms: u64,
    /// `[tls.roles]`: subjects of certificates (RFC 4514) and the roles each has. Default: none.
    pub roles: BTreeMap<String, Vec<String>>,
}

impl TlsConfig {
    /// Whether the agent speaks TLS.
    pub const fn is_on(&self) -> bool {
        self.certificate.is_some()
    }
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246, with forward secrecy and authenticated encryption only.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// Whether callers show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// None is asked for.
    Off,
    /// One is asked for; a caller without one needs a token.
    Optional,
    /// Without one there is no connection.
    Required,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            min_version: TlsVersion::V12,
            client_auth: ClientAuth::Off,
            client_ca: None,
            handshake_timeout_ms: 5_000,
            roles: BTreeMap::new(),
        }
    }
}
