//! Who calls, and what they may do.
//!
//! `authenticate` names the [`Actor`] of every request and never refuses; `authorize` decides, and the API refuses by its
//! decision. So a refusal is recorded like everything else. Nothing here knows the audit ring or an endpoint.

mod actor;
mod admission;
mod authenticate;
mod authorize;
mod cache;
mod certificate;
mod claims;
mod client;
mod credential;
mod crypto;
mod form;
mod guarded_file;
mod jwks;
mod key;
mod key_der;
mod key_error;
mod keys;
mod limit;
mod local;
mod members;
mod pem;
mod permission;
mod random;
mod revoked;
mod rules;
mod standing;
mod time_floor;
mod token;
mod token_header;
mod weak_key;

pub use actor::{Actor, AuthMethod};
pub use admission::{Admission, Rates};
pub use authenticate::{Authenticator, Caller, authenticate};
pub use authorize::{Refusal, authorize};
pub use certificate::{CertificateRoles, ClientCertificate};
pub use claims::ClaimError;
pub(crate) use claims::is_unprintable;
pub use client::{Client, ForwardedHeader, TrustedProxies, network_of};
pub use credential::Credential;
pub use guarded_file::FileError;
pub(crate) use guarded_file::{GuardedFile, create_private};
pub use key::{KeyAlgorithm, SigningKey, VerifyingKey};
pub use key_error::{KeyError, KeyFormatError};
pub use keys::Keys;
pub use local::LocalPeer;
pub(crate) use pem::private_block;
pub use permission::{Permission, PermissionSet, Roles};
pub use revoked::{RevokedError, RevokedTokens};
pub use rules::Rules;
pub use standing::Standing;
pub use time_floor::TimeFloor;
pub use token::{Grant, MAX_TOKEN_BYTES, TokenError, TokenIssuer, TokenVerifier, VerifiedToken, self_test};
