//! Callers who are known by a certificate.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::actor::role_lines;
use super::{Actor, AuthMethod, PermissionSet, Roles};

/// A certificate that a caller has shown and that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject (RFC 4514): at most 256 bytes without a character that acts.
    pub subject: String,
    /// The last second that it is good for, from 1970. It was verified as the connection began, which can be long ago.
    pub not_after_s: i64,
}

/// The roles of subjects.
#[derive(Clone, Debug)]
pub struct CertificateRoles {
    by_subject: BTreeMap<String, Vec<String>>,
    roles: Roles,
}

impl CertificateRoles {
    /// Each of these subjects has these roles, and they stand for what `roles` says.
    pub const fn new(by_subject: BTreeMap<String, Vec<String>>, roles: Roles) -> Self {
        Self { by_subject, roles }
    }

    /// Who calls with this certificate at `now_s`. Whom nobody has given a role is known, and may do nothing.
    pub(super) fn actor(&self, certificate: &ClientCertificate, now_s: i64) -> Arc<Actor> {
        let expired_s = now_s.saturating_sub(certificate.not_after_s);
        if expired_s > 0 {
            return Arc::new(Actor::refused(format!("the certificate expired {expired_s} s ago")));
        }
        let roles = self.by_subject.get(&certificate.subject).map_or(&[][..], Vec::as_slice);
        let held = roles.iter().map(|role| self.roles.expand(role));
        Arc::new(Actor {
            user: certificate.subject.clone(),
            roles: role_lines(roles),
            auth_method: Some(AuthMethod::Mtls),
            expires_at_s: Some(certificate.not_after_s.saturating_add(1)),
            permissions: held.fold(PermissionSet::EMPTY, PermissionSet::union),
            ..Actor::default()
        })
    }
}
