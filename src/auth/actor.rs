//! Who calls.
//!
//! Attached to every request by `authenticate`, read by `audit` and `authorize`. Texts are bounded and harmless: they are
//! stored as they are here.

use super::{Permission, PermissionSet};

/// How a caller was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// By a bearer token (RFC 6750).
    Bearer,
    /// By the certificate that the caller showed in the TLS handshake.
    Mtls,
    /// By the process that the Unix socket was connected from.
    Unix,
}

impl AuthMethod {
    /// Every method, in the order of their numbers in the ring file, from 1.
    pub const ALL: [Self; 3] = [Self::Bearer, Self::Mtls, Self::Unix];

    /// The method as served.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Mtls => "mtls",
            Self::Unix => "unix",
        }
    }
}

/// Cap of an actor's roles together with their line breaks, in bytes.
pub(super) const ROLES_MAX_BYTES: usize = 512;

/// Role names as an actor carries them: a line each, the first ones that fit, then `...(N roles)` where some were left out, N being
/// all of them. No name holds a line break: tokens with such a name are refused.
pub(super) fn role_lines(roles: &[String]) -> String {
    let all = roles.join("\n");
    if all.len() <= ROLES_MAX_BYTES {
        return all;
    }
    let tail = format!("...({} roles)", roles.len());
    let room = ROLES_MAX_BYTES - tail.len();
    let cut = all.bytes().take(room).rposition(|byte| byte == b'\n').map_or(0, |line_break| line_break + 1);
    format!("{}{tail}", &all[..cut])
}

/// Who calls: someone authenticated, or anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The subject of the token or of the certificate, or the user of the process; empty for an anonymous caller.
    pub user: String,
    /// Role names from the token, a line each, 512 bytes at most.
    pub roles: String,
    /// The token's `jti`.
    pub token_id: Option<String>,
    /// How the caller was authenticated; none for an anonymous caller.
    pub auth_method: Option<AuthMethod>,
    /// What the caller may do.
    pub permissions: PermissionSet,
    /// When the credential is not accepted any more, in seconds from 1970; none where it tells no time.
    pub expires_at_s: Option<i64>,
    /// Why a credential that was sent is not accepted, as its sender is told; none where it is, or where none was sent.
    pub refused: Option<String>,
}

impl Actor {
    /// Someone without a credential, who holds `permissions`.
    pub fn anonymous(permissions: PermissionSet) -> Self {
        Self { permissions, ..Self::default() }
    }

    /// Someone whose credential is not accepted, for this reason; holds nothing.
    pub fn refused(reason: String) -> Self {
        Self { refused: Some(reason), ..Self::default() }
    }

    /// Whether this is anyone: nobody was authenticated, or a user of this node to whom nothing was given, as any program can be.
    pub const fn is_anonymous(&self) -> bool {
        match self.auth_method {
            None => true,
            Some(AuthMethod::Unix) => !self.may(Permission::AuditRead),
            Some(AuthMethod::Bearer | AuthMethod::Mtls) => false,
        }
    }

    /// Whether this caller may do what asks for `permission`.
    pub const fn may(&self, permission: Permission) -> bool {
        self.permissions.allows(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_do_not_fit_are_counted() {
        let roles = |count: usize| (0..count).map(|n| format!("{n:064}")).collect::<Vec<_>>();
        assert_eq!(role_lines(&["admin".to_owned(), "read".to_owned()]), "admin\nread");
        assert_eq!(role_lines(&roles(7)).lines().count(), 7);
        let lines = role_lines(&roles(32));
        assert!(lines.len() <= ROLES_MAX_BYTES);
        assert_eq!(lines.lines().count(), 8);
        assert_eq!(lines.lines().last(), Some("...(32 roles)"));
    }
}
