//! Whether an actor may do what an operation asks for.
//!
//! A decision, not a response: `audit` records it, the API answers by it.

use super::{Actor, Permission};

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody is authenticated, and this says why.
    Unauthenticated(String),
    /// Too much came from one caller, for this reason; he may try again in so many seconds.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// When to come again.
        retry_after_s: u64,
    },
    /// The caller is known and lacks this permission.
    Lacks(Permission),
}

/// Decides. Who sends a credential that is not accepted may do less than who sends none: not even what `auth.anonymous_permissions`
/// gives. He is told the reason.
pub fn authorize(actor: &Actor, permission: Permission) -> Result<(), Refusal> {
    if actor.may(permission) {
        return Ok(());
    }
    if actor.is_anonymous() {
        let reason = match (&actor.refused, actor.auth_method) {
            (Some(reason), _) => reason.clone(),
            (None, Some(_)) => format!("the user {} needs a bearer token for this", actor.user),
            (None, None) => "a bearer token is required".to_owned(),
        };
        return Err(Refusal::Unauthenticated(reason));
    }
    Err(Refusal::Lacks(permission))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AuthMethod, PermissionSet};

    #[test]
    fn whoever_holds_the_permission_is_allowed_and_nobody_else() {
        let reader = Actor {
            auth_method: Some(AuthMethod::Bearer),
            permissions: PermissionSet::of(&[Permission::NodeRead]),
            ..Actor::default()
        };
        assert_eq!(authorize(&reader, Permission::NodeRead), Ok(()));
        assert_eq!(authorize(&reader, Permission::NodeWrite), Err(Refusal::Lacks(Permission::NodeWrite)));
        let anonymous = Actor::anonymous(PermissionSet::EMPTY);
        assert!(matches!(authorize(&anonymous, Permission::NodeRead), Err(Refusal::Unauthenticated(_))));
        assert_eq!(authorize(&anonymous, Permission::Public), Ok(()));
    }

    #[test]
    fn a_refused_credential_is_named_as_the_reason() {
        let actor = Actor::refused("the token has expired".to_owned());
        let refusal = Refusal::Unauthenticated("the token has expired".to_owned());
        assert_eq!(authorize(&actor, Permission::NodeRead), Err(refusal));
    }
}
