//! The middleware that finds out who calls.
//!
//! Attaches an `Arc<Actor>` to every request and never refuses: what a bad credential leads to is decided in `authorize`, after
//! the call has an entry.

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};

use super::actor::role_lines;
use super::{Actor, AuthMethod, Credential, PermissionSet, TimeFloor, TokenVerifier};
use crate::host::clock;
use crate::live::Live;

/// Turns what a request brings into an [`Actor`].
#[derive(Debug)]
pub struct Authenticator {
    verifier: TokenVerifier,
    anonymous: Arc<Actor>,
    time_floor: Arc<TimeFloor>,
}

impl Authenticator {
    /// An authenticator that accepts what `verifier` accepts while the clock is not before `time_floor`; callers without a token
    /// hold `anonymous`.
    pub fn new(verifier: TokenVerifier, anonymous: PermissionSet, time_floor: Arc<TimeFloor>) -> Self {
        Self { verifier, anonymous: Arc::new(Actor::anonymous(anonymous)), time_floor }
    }

    fn actor(&self, credential: Credential<'_>) -> Arc<Actor> {
        let token = match credential {
            Credential::None => return Arc::clone(&self.anonymous),
            Credential::Unusable(reason) => return Arc::new(Actor::refused(reason.to_owned())),
            Credential::Bearer(token) => token,
        };
        let now_s = clock::wall_clock_ms().div_euclid(1_000);
        if self.time_floor.is_before(now_s, self.verifier.leeway_s()) {
            return Arc::new(Actor::refused("this node's clock is behind a time that has been".to_owned()));
        }
        match self.verifier.verify(token, now_s) {
            Ok(token) => {
                // Signed by someone trusted and not in the future: from now on an earlier clock is wrong.
                token.issued_at_s.inspect(|&issued_at_s| self.time_floor.raise(issued_at_s));
                Arc::new(Actor {
                    user: token.subject,
                    roles: role_lines(&token.roles),
                    token_id: token.token_id,
                    auth_method: Some(AuthMethod::Bearer),
                    permissions: token.permissions,
                    refused: None,
                })
            }
            Err(error) => Arc::new(Actor::refused(error.to_string())),
        }
    }
}

/// The middleware.
pub async fn authenticate(
    authenticator: web::Data<Live<Authenticator>>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let credential = Credential::parse(request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes));
    let actor = authenticator.get().actor(credential);
    request.extensions_mut().insert(actor);
    next.call(request).await
}
