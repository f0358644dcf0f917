//! What the fuzz targets share: the key, and an agent in this process.

mod agent;
mod response;

use nodeaudit::auth::SigningKey;

pub use agent::{AGENT, Agent, Talk};
pub use response::statuses;

/// The secret of every agent here; the tokens in the seeds are signed with it.
pub const SECRET: &[u8] = b"a secret that everybody knows, for fuzzing only";

/// The key with that secret.
pub fn key() -> SigningKey {
    SigningKey::from_secret(SECRET).expect("the secret is long enough")
}

/// HMAC with SHA-256.
pub fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}
