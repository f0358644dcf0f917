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
}

impl AuthMethod {
    /// Every method, in the order of their numbers in the ring file, from 1.
    pub const ALL: [Self; 1] = [Self::Bearer];

    /// The method as served.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
        }
    }
}

/// Who calls: someone authenticated, or anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The token's subject; empty for an anonymous caller.
    pub user: String,
    /// Role names from the token, a line each.
    pub roles: String,
    /// The token's `jti`.
    pub token_id: Option<String>,
    /// How the caller was authenticated; none for an anonymous caller.
    pub auth_method: Option<AuthMethod>,
    /// What the caller may do.
    pub permissions: PermissionSet,
    /// Why a credential that was sent is not accepted; none where it is, or where none was sent.
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

    /// Whether nobody was authenticated.
    pub const fn is_anonymous(&self) -> bool {
        self.auth_method.is_none()
    }

    /// Whether this caller may do what asks for `permission`.
    pub const fn may(&self, permission: Permission) -> bool {
        self.permissions.allows(permission)
    }
}
