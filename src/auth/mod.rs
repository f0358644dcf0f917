//! Who calls, and what they may do.
//!
//! `authenticate` attaches an [`Actor`] to every request and never refuses; `authorize` decides, and the API refuses by its
//! decision. So a refusal is recorded like everything else. Nothing here knows the audit ring or an endpoint.

mod actor;
mod admission;
mod authenticate;
mod authorize;
mod certificate;
mod claims;
mod client;
mod credential;
mod crypto;
mod key;
mod limit;
mod permission;
mod token;

pub use actor::{Actor, AuthMethod};
pub use admission::{Admission, Rates};
pub use authenticate::{Authenticator, authenticate};
pub use authorize::{Refusal, authorize};
pub use certificate::{CertificateRoles, ClientCertificate};
pub use claims::ClaimError;
pub(crate) use claims::is_unprintable;
pub use client::{Client, Network, TrustedProxies, network_of};
pub use credential::Credential;
pub use key::{KeyError, SigningKey};
pub(crate) use key::{read_private, write_private};
pub use permission::{Permission, PermissionSet, Roles};
pub use token::{Grant, MAX_TOKEN_BYTES, TokenError, TokenIssuer, TokenVerifier, VerifiedToken, self_test};
