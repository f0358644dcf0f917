//! Permissions, sets of them, and the roles that stand for sets.
//!
//! Owns the one list of permissions and what the built-in roles hold. Knows neither tokens nor operations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an operation asks of its caller, written `resource:verb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Permission {
    /// Anyone may call, without a token.
    #[serde(skip)]
    Public,
    /// Read the audit ring.
    #[serde(rename = "audit:read")]
    AuditRead,
    /// Read what the agent says of itself: version, API description.
    #[serde(rename = "health:read")]
    HealthRead,
    /// Read the node's journal, which may hold more than the other readings.
    #[serde(rename = "log:read")]
    LogRead,
    /// Read the node's settings and measurements.
    #[serde(rename = "node:read")]
    NodeRead,
    /// Change the node's settings.
    #[serde(rename = "node:write")]
    NodeWrite,
    /// Reboot the node or shut it down.
    #[serde(rename = "power:execute")]
    PowerExecute,
    /// Start, stop and restart services.
    #[serde(rename = "service:write")]
    ServiceWrite,
}

impl Permission {
    /// Every permission that can be held; `Public` is not one.
    pub const ALL: [Self; 7] = [
        Self::AuditRead,
        Self::HealthRead,
        Self::LogRead,
        Self::NodeRead,
        Self::NodeWrite,
        Self::PowerExecute,
        Self::ServiceWrite,
    ];

    /// The permission as it stands in tokens, configuration and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::AuditRead => "audit:read",
            Self::HealthRead => "health:read",
            Self::LogRead => "log:read",
            Self::NodeRead => "node:read",
            Self::NodeWrite => "node:write",
            Self::PowerExecute => "power:execute",
            Self::ServiceWrite => "service:write",
        }
    }

    /// The permission of that name, none where no operation knows it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == name)
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet(u32);

impl PermissionSet {
    /// The set that holds nothing.
    pub const EMPTY: Self = Self(0);

    /// The set of these.
    pub fn of(permissions: &[Permission]) -> Self {
        permissions.iter().copied().collect()
    }

    /// Whether a holder of this set may do what asks for `permission`.
    pub const fn allows(self, permission: Permission) -> bool {
        matches!(permission, Permission::Public) || self.0 & bit(permission) != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | bit(permission)))
    }
}

const fn bit(permission: Permission) -> u32 {
    match permission {
        Permission::Public => 0,
        held => 1 << held as u32,
    }
}

/// Names of roles and what each holds: the four built-in ones and the operator's own.
#[derive(Clone, Debug)]
pub struct Roles(BTreeMap<String, PermissionSet>);

impl Roles {
    /// The names of the roles that need no configuration.
    pub const BUILT_IN: [&'static str; 4] = ["admin", "write", "read", "auditor"];

    /// The built-in roles and `own`; an own role of a built-in name replaces that one.
    pub fn new(own: &BTreeMap<String, Vec<Permission>>) -> Self {
        use Permission::{AuditRead, HealthRead, LogRead, NodeRead, NodeWrite, ServiceWrite};
        let read = PermissionSet::of(&[NodeRead, HealthRead]);
        let write = read.union(PermissionSet::of(&[LogRead, NodeWrite, ServiceWrite]));
        let built_in = [
            ("admin", Permission::ALL.into_iter().collect()),
            ("write", write),
            ("read", read),
            ("auditor", PermissionSet::of(&[AuditRead])),
        ];
        let own = own.iter().map(|(name, held)| (name.clone(), PermissionSet::of(held)));
        Self(built_in.map(|(name, held)| (name.to_owned(), held)).into_iter().chain(own).collect())
    }

    /// What the role of that name holds: nothing where there is no such role.
    pub fn expand(&self, name: &str) -> PermissionSet {
        self.0.get(name).copied().unwrap_or(PermissionSet::EMPTY)
    }

    /// Whether a role of that name exists.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_the_audit_ring_is_for_admin_and_auditor_only() {
        let roles = Roles::new(&BTreeMap::new());
        let may = |role| roles.expand(role).allows(Permission::AuditRead);
        assert_eq!(Roles::BUILT_IN.map(may), [true, false, false, true]);
    }

    #[test]
    fn an_unknown_role_holds_nothing_but_what_is_public() {
        let held = Roles::new(&BTreeMap::new()).expand("root");
        assert_eq!(held, PermissionSet::EMPTY);
        assert!(held.allows(Permission::Public));
    }

    #[test]
    fn every_permission_has_a_bit_of_its_own_and_parses_from_its_name() {
        for permission in Permission::ALL {
            let alone = PermissionSet::of(&[permission]);
            let allowed: Vec<_> = Permission::ALL.into_iter().filter(|&other| alone.allows(other)).collect();
            assert_eq!(allowed, [permission]);
            assert_eq!(Permission::parse(permission.as_str()), Some(permission));
        }
    }
}
