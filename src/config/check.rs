//! What values are allowed, of one key and of several together.
//!
//! Knows the tree and no source: who calls it knows where a refused value came from.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::tls::ClientAuth;
use super::tree::{ClassConfig, Config, Plaintext};
use crate::audit::retention::GUARANTEES_MAX_PERCENT;
use crate::auth::{Permission, Roles};

/// Bytes that the subject of a certificate has at most, as callers are known by it.
const SUBJECT_MAX_BYTES: usize = 256;

/// A key and what its value must be.
pub(super) type Complaint = (&'static str, String);

impl Config {
    /// The keys whose values are not allowed, each looked at alone.
    pub(super) fn check_keys(&self) -> Vec<Complaint> {
        let numbers = self.numbers().into_iter();
        let numbers = numbers.filter(|(_, value, range)| !range.contains(value));
        let numbers = numbers.map(|(key, _, range)| (key, must_be(&range)));
        let texts = self.texts().into_iter().filter(|&(_, allowed, _)| !allowed);
        let texts = texts.map(|(key, _, must)| (key, format!("must be {must}")));
        numbers.chain(texts).collect()
    }

    /// Whether tokens could be read on their way to that address, and nobody has allowed it.
    pub fn refuses_plaintext_at(&self, address: SocketAddr) -> bool {
        !address.ip().is_loopback() && !self.tls.is_on() && self.server.plaintext == Plaintext::Refuse
    }

    /// The keys that contradict each other, and how. A complaint can name several keys of which any could be changed.
    pub(super) fn check_together(&self) -> Vec<(Vec<&'static str>, String)> {
        self.check_guarantees().into_iter().chain(self.check_tls()).chain(self.check_audiences()).collect()
    }

    /// A public key is that of many nodes. For which of them a token is must not hang on anything that a call can change, as the
    /// host name is.
    fn check_audiences(&self) -> Option<(Vec<&'static str>, String)> {
        let lacks = !self.auth.keys.is_empty() && self.auth.audiences.is_empty();
        lacks.then(|| {
            let message = "needs auth.audiences, the names that tokens for this node have in aud: without them a token for \
                           another node would be good here";
            (vec!["auth.keys"], message.to_owned())
        })
    }

    fn check_tls(&self) -> Vec<(Vec<&'static str>, String)> {
        let (server, tls) = (&self.server, &self.tls);
        let mut complaints = Vec::new();
        let mut complain = |keys: &[&'static str], message: &str| complaints.push((keys.to_vec(), message.to_owned()));
        if tls.certificate.is_some() != tls.key.is_some() {
            complain(
                &["tls.certificate", "tls.key"],
                "a certificate and its key go together: tls.certificate and tls.key",
            );
        }
        if tls.client_auth != ClientAuth::Off && !(tls.is_on() && tls.client_ca.is_some()) {
            complain(&["tls.client_auth"], "needs tls.certificate, tls.key and tls.client_ca");
        }
        if self.refuses_plaintext_at(server.listen) {
            complain(
                &["server.listen"],
                "must be a loopback address without TLS, because tokens could be read on their way: set tls.certificate and \
                 tls.key (`nodeaudit tls init` makes them), or server.plaintext = \"allow\"",
            );
        }
        let known = |role: &String| Roles::BUILT_IN.contains(&role.as_str()) || self.auth.roles.contains_key(role);
        if let Some(unknown) = tls.roles.values().flatten().find(|&role| !known(role)) {
            complain(
                &["tls.roles"],
                &format!("names the role {unknown:?}, which is neither built in nor in [auth.roles]"),
            );
        }
        complaints
    }

    fn check_guarantees(&self) -> Vec<(Vec<&'static str>, String)> {
        let classes = [&self.audit.change, &self.audit.read, &self.audit.denied];
        let sum: u64 = classes.into_iter().map(|class| u64::from(class.guarantee)).sum();
        if sum <= GUARANTEES_MAX_PERCENT {
            return Vec::new();
        }
        let keys = vec!["audit.change.guarantee", "audit.read.guarantee", "audit.denied.guarantee"];
        let complaint = format!(
            "the guarantees of the three classes are {sum} percent together, must be at most {GUARANTEES_MAX_PERCENT}: \
             the rest is where classes grow and what batches are evicted from"
        );
        vec![(keys, complaint)]
    }

    /// Every number with its range.
    fn numbers(&self) -> [(&'static str, u64, RangeInclusive<u64>); 32] {
        let (server, limits, audit) = (&self.server, &self.limits, &self.audit);
        let window = |class: &ClassConfig| class.window_ms;
        let guarantee = |class: &ClassConfig| u64::from(class.guarantee);
        [
            ("server.workers", server.workers as u64, 0..=64),
            ("server.max_body_bytes", server.max_body_bytes as u64, 1024..=1 << 20),
            ("server.max_connections", server.max_connections as u64, 1..=100_000),
            ("server.max_connections_per_peer", server.max_connections_per_peer as u64, 1..=100_000),
            ("server.shutdown_timeout_s", server.shutdown_timeout_s, 0..=300),
            ("server.client_timeout_ms", server.client_timeout_ms, 100..=60_000),
            ("server.body_timeout_ms", server.body_timeout_ms, 100..=600_000),
            ("server.write_timeout_ms", server.write_timeout_ms, 100..=600_000),
            ("server.handler_timeout_s", server.handler_timeout_s, 1..=3_600),
            ("server.keep_alive_s", server.keep_alive_s, 1..=3_600),
            ("server.max_streams", server.max_streams as u64, 0..=10_000),
            ("server.stream_max_s", server.stream_max_s, 1..=86_400),
            ("tls.handshake_timeout_ms", self.tls.handshake_timeout_ms, 100..=60_000),
            ("limits.peer_per_s", limits.peer_per_s, 0..=1_000_000),
            ("limits.peer_burst", limits.peer_burst, 1..=1_000_000),
            ("limits.actor_per_s", limits.actor_per_s, 0..=1_000_000),
            ("limits.actor_burst", limits.actor_burst, 1..=1_000_000),
            ("limits.failures_per_min", limits.failures_per_min, 0..=1_000_000),
            ("limits.failures_burst", limits.failures_burst, 1..=1_000_000),
            ("limits.tracked", limits.tracked as u64, 16..=1_000_000),
            ("auth.leeway_s", self.auth.leeway_s.into(), 0..=5),
            ("auth.max_lifetime_s", self.auth.max_lifetime_s.into(), 0..=31_536_000),
            ("audit.max_entries", audit.max_entries, 100..=100_000_000),
            ("audit.max_bytes", audit.max_bytes, 1 << 20..=1 << 40),
            ("audit.max_pending", audit.max_pending as u64, 64..=65_536),
            ("audit.denied_entries", audit.denied_entries as u64, 16..=4_096),
            ("audit.change.window_ms", window(&audit.change), 10..=60_000),
            ("audit.change.guarantee", guarantee(&audit.change), 0..=GUARANTEES_MAX_PERCENT),
            ("audit.read.window_ms", window(&audit.read), 10..=60_000),
            ("audit.read.guarantee", guarantee(&audit.read), 0..=GUARANTEES_MAX_PERCENT),
            ("audit.denied.window_ms", window(&audit.denied), 10..=60_000),
            ("audit.denied.guarantee", guarantee(&audit.denied), 0..=GUARANTEES_MAX_PERCENT),
        ]
    }

    /// Every text with a form of its own, whether it has that form, and what that form is.
    fn texts(&self) -> [(&'static str, bool, &'static str); 16] {
        let (auth, tls) = (&self.auth, &self.tls);
        [
            ("state_dir", is_absolute(&self.state_dir), "an absolute path"),
            ("server.socket", self.server.socket.is_allowed(), "auto, empty or an absolute path of at most 107 bytes"),
            ("server.socket_group", is_group(&self.server.socket_group), "empty or the name of a group"),
            (
                "server.base_path",
                is_base_path(&self.server.base_path),
                "empty, or segments of letters, digits and -._~ with a / before each and none at the end, as /api/v1",
            ),
            ("tls.certificate", tls.certificate.as_deref().is_none_or(is_absolute), "empty or an absolute path"),
            ("tls.key", tls.key.as_deref().is_none_or(is_absolute), "empty or an absolute path"),
            ("tls.client_ca", tls.client_ca.as_deref().is_none_or(is_absolute), "empty or an absolute path"),
            (
                "tls.roles",
                tls.roles.keys().all(|subject| is_subject(subject)),
                "subjects of certificates of at most 256 bytes, not cut, as `openssl x509 -noout -subject -nameopt \
                 RFC2253,utf8,-esc_msb` prints them",
            ),
            ("auth.keys", auth.keys.iter().all(|path| is_absolute(path)), "absolute paths"),
            ("auth.key_file", auth.key_file.as_deref().is_none_or(is_absolute), "empty or an absolute path"),
            (
                "auth.anonymous_permissions",
                auth.anonymous_permissions.iter().all(|&held| held == Permission::HealthRead),
                "nothing or [\"health:read\"]: anything else needs a token",
            ),
            ("auth.issuers", auth.issuers.iter().all(|name| is_party(name)), PARTIES),
            ("auth.audiences", auth.audiences.iter().all(|name| is_party(name)), PARTIES),
            (
                "auth.revoked_tokens",
                auth.revoked_tokens.as_deref().is_none_or(is_absolute),
                "empty or an absolute path",
            ),
            (
                "auth.roles",
                auth.roles.iter().all(|(name, held)| is_role(name, held)),
                "names of 1 to 64 bytes without control characters, and read and write never hold audit:read",
            ),
            ("host.root", is_absolute(&self.host.root), "an absolute path"),
        ]
    }
}

/// A path from the root that a system call takes, which ends paths at a NUL.
pub(super) fn is_absolute(path: &Path) -> bool {
    path.is_absolute() && !path.as_os_str().as_bytes().contains(&0)
}

/// What the value of `key` must be, where that is a number.
pub(super) fn range_of(key: &str) -> Option<String> {
    let numbers = Config::default().numbers();
    let found = numbers.iter().find(|(name, ..)| *name == key);
    found.map(|(_, _, range)| must_be(range))
}

fn must_be(range: &RangeInclusive<u64>) -> String {
    format!("must be {} to {}", range.start(), range.end())
}

/// Unreserved characters of RFC 3986, section 2.3, so that the path looks the same in a request and in an entry.
fn is_base_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    path.is_empty() || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment))
}

/// A name that begins with an attribute, `CN=` for one. One that was cut stands for all that begin alike, and gets no role.
fn is_subject(subject: &str) -> bool {
    subject.len() <= SUBJECT_MAX_BYTES
        && !is_cut(subject)
        && subject.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '))
}

/// Whether a longer subject could have been cut to this.
fn is_cut(subject: &str) -> bool {
    // Cut between characters, so up to three bytes before the limit.
    subject.len() > SUBJECT_MAX_BYTES - 4 && subject.ends_with("...")
}

/// What can stand in `group(5)`.
fn is_group(name: &str) -> bool {
    name.len() <= 256 && !name.contains(|character: char| character == ':' || character.is_control())
}

/// What issuers and audiences are.
const PARTIES: &str = "names of 1 to 256 bytes without control characters";

fn is_party(name: &str) -> bool {
    (1..=256).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Who reads or writes the node must not see who else does: an operator could widen these two by oversight.
fn is_role(name: &str, held: &[Permission]) -> bool {
    let may_see = !["read", "write"].contains(&name) || !held.contains(&Permission::AuditRead);
    may_see && (1..=64).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Config::default().check_keys(), []);
        assert_eq!(Config::default().check_together(), []);
    }

    #[test]
    fn guarantees_over_90_percent_together_are_refused() {
        let mut config = Config::default();
        config.audit.denied.guarantee += 1;
        let complaints = config.check_together();
        assert!(complaints[0].1.contains("are 91 percent together, must be at most 90"));
        config.audit.read.guarantee -= 1;
        assert_eq!(config.check_together(), []);
    }

    #[test]
    fn public_keys_need_the_names_that_tokens_for_this_node_have() {
        let mut config = Config::default();
        config.auth.keys.push("/etc/nodeaudit/keys".into());
        let complaints = config.check_together();
        assert_eq!(complaints[0].0, ["auth.keys"]);
        assert!(complaints[0].1.starts_with("needs auth.audiences"), "{complaints:?}");
        config.auth.audiences.push("node-7".to_owned());
        assert_eq!(config.check_together(), []);
        config.auth.keys.clear();
        config.auth.audiences.clear();
        config.auth.key_file = Some("/etc/nodeaudit/shared.key".into());
        assert_eq!(config.check_together(), [], "a shared secret");
    }

    #[test]
    fn a_base_path_looks_the_same_in_a_request() {
        for path in ["", "/api", "/api/v1", "/a-b/c_d/~e/1.0"] {
            assert!(is_base_path(path), "{path:?}");
        }
        for path in
            ["/", "api", "api/", "/api/", "//api", "/api//v1", "/a b", "/ä", "/a%20b", "/{id}", "/a?b", "/..", "/./a"]
        {
            assert!(!is_base_path(path), "{path:?}");
        }
    }

    #[test]
    fn a_subject_that_was_cut_gets_no_role() {
        assert!(is_subject("CN=fleet-manager,O=Example...") && is_subject(&format!("CN={}", "a".repeat(253))));
        for bytes in 253..=256 {
            assert!(!is_subject(&format!("CN={}...", "a".repeat(bytes - 6))), "{bytes}");
        }
        assert!(!is_subject(&format!("CN={}", "a".repeat(254))) && !is_subject("=x") && !is_subject("fleet manager=x"));
    }

    #[test]
    fn a_role_has_a_name_that_a_token_can_hold() {
        assert!(is_role("operator", &[]) && is_role(&"r".repeat(64), &Permission::ALL));
        assert!(!is_role("", &[]) && !is_role(&"r".repeat(65), &[]) && !is_role("a\nb", &[]));
        assert!(!is_role("read", &Permission::ALL) && !is_role("write", &[Permission::AuditRead]));
        assert!(is_role("read", &[Permission::LogRead]) && is_role("auditor", &Permission::ALL));
    }
}
