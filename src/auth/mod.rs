//! Who calls, and what they may do.
//!
//! `authenticate` attaches an [`Actor`] to every request and never refuses; `authorize` decides, and the API refuses by its
//! decision. So a refusal is recorded like everything else. Nothing here knows the audit ring or an endpoint.

mod actor;
mod authenticate;
mod authorize;
mod claims;
mod credential;
mod crypto;
mod key;
mod permission;
mod token;

pub use actor::{Actor, AuthMethod};
pub use authenticate::{Authenticator, authenticate};
pub use authorize::{Refusal, authorize};
pub use claims::ClaimError;
pub use credential::Credential;
pub use key::{KeyError, SigningKey};
pub use permission::{Permission, PermissionSet, Roles};
pub use token::{Grant, MAX_TOKEN_BYTES, TokenError, TokenIssuer, TokenVerifier, VerifiedToken, self_test};
