//! Callers who are known by the Unix socket that they call through: the kernel says whose process it is (unix(7), `SO_PEERCRED`).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::{Actor, AuthMethod, Permission, PermissionSet};

/// What one may do without a token who may read the audit: that, and what the agent says of itself. Nothing changes the node.
const MAY: [Permission; 2] = [Permission::AuditRead, Permission::HealthRead];

/// A process on this node that has connected to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// Whose it is.
    pub uid: u32,
    /// The same by name, or as `uid:1000` where that has none: harmless and at most 256 bytes.
    pub user: String,
    /// Whether that is root, or a member of the group that may read the audit.
    pub may_read: bool,
}

impl LocalPeer {
    /// What stands in entries for the address of one who has none: the unspecified address (RFC 4291, section 2.5.2), which no call
    /// over the network can have.
    pub const ADDRESS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    /// Who calls. One who may read nothing here is named all the same, and may do what anyone may.
    pub fn actor(&self, anonymous: PermissionSet) -> Arc<Actor> {
        let permissions = if self.may_read { PermissionSet::of(&MAY) } else { PermissionSet::EMPTY };
        Arc::new(Actor {
            user: self.user.clone(),
            auth_method: Some(AuthMethod::Unix),
            permissions: permissions.union(anonymous),
            ..Actor::default()
        })
    }

    /// Whom calls and connections count for: an address for each user, of those that are never anyone's (RFC 6666).
    pub fn counted(&self) -> IpAddr {
        let [high, low] = [self.uid >> 16, self.uid & 0xffff].map(|half| u16::try_from(half).unwrap_or_default());
        Ipv6Addr::new(0x0100, 0, high, low, 0, 0, 0, 0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::network_of;

    fn peer(uid: u32, may_read: bool) -> LocalPeer {
        LocalPeer { uid, user: format!("uid:{uid}"), may_read }
    }

    #[test]
    fn who_may_read_the_audit_may_change_nothing() {
        let (reader, other) = (peer(0, true).actor(PermissionSet::EMPTY), peer(1, false).actor(PermissionSet::EMPTY));
        for permission in Permission::ALL {
            assert_eq!(reader.may(permission), MAY.contains(&permission), "{permission:?}");
            assert!(!other.may(permission), "{permission:?}");
        }
        assert!(!reader.is_anonymous() && other.is_anonymous());
    }

    #[test]
    fn each_user_counts_alone() {
        let counted = [0, 1, 65_536, u32::MAX].map(|uid| network_of(peer(uid, true).counted()));
        assert!((1..4).all(|index| !counted[..index].contains(&counted[index])), "{counted:?}");
    }
}
