//! The middleware that finds out who calls.
//!
//! Attaches a [`Client`] and an `Arc<Actor>` to every request, and a [`Refusal`](super::Refusal) where it is one too many. It
//! never answers: what a bad credential or a limit leads to happens after the call has an entry.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};

use super::actor::role_lines;
use super::{
    Actor, Admission, AuthMethod, CertificateRoles, Client, ClientCertificate, Credential, LocalPeer, PermissionSet,
    TimeFloor, TokenVerifier,
};
use crate::host::clock;
use crate::live::Live;

/// Turns what a request brings into an [`Actor`].
#[derive(Debug)]
pub struct Authenticator {
    verifier: TokenVerifier,
    anonymous: Arc<Actor>,
    certificates: CertificateRoles,
    time_floor: Arc<TimeFloor>,
}

impl Authenticator {
    /// An authenticator that accepts what `verifier` accepts while the clock is not before `time_floor`; who shows a certificate and
    /// no token is whom `certificates` says, and callers without either hold `anonymous`.
    pub fn new(
        verifier: TokenVerifier,
        anonymous: PermissionSet,
        certificates: CertificateRoles,
        time_floor: Arc<TimeFloor>,
    ) -> Self {
        Self { verifier, anonymous: Arc::new(Actor::anonymous(anonymous)), certificates, time_floor }
    }

    /// A token counts more than what is known of the connection: who sends one speaks for whom it names. A bad token is refused and
    /// not made up for by a good certificate, nor by a user.
    pub(super) fn actor(&self, credential: Credential<'_>, connection: Known<'_>) -> Arc<Actor> {
        let token = match (credential, connection) {
            (Credential::None, Known::Certificate(certificate)) => {
                return self.certificates.actor(certificate, now_s());
            }
            (Credential::None, Known::Local(peer)) => return peer.actor(self.anonymous.permissions),
            (Credential::None, Known::Nothing) => return Arc::clone(&self.anonymous),
            (Credential::Unusable(reason), _) => return Arc::new(Actor::refused(reason.to_owned())),
            (Credential::Bearer(token), _) => token,
        };
        let now_s = now_s();
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
                    expires_at_s: Some(token.expires_at_s.saturating_add(self.verifier.leeway_s().into())),
                    refused: None,
                })
            }
            Err(error) => Arc::new(Actor::refused(error.to_string())),
        }
    }
}

fn now_s() -> i64 {
    clock::wall_clock_ms().div_euclid(1_000)
}

/// What is known of who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'a> {
    /// Nothing.
    Nothing,
    /// The certificate that he has shown.
    Certificate(&'a ClientCertificate),
    /// The process that has connected.
    Local(&'a LocalPeer),
}

impl<'a> Known<'a> {
    /// What is known of these two, of which a connection has one at most.
    pub(super) fn of(certificate: Option<&'a ClientCertificate>, local: Option<&'a LocalPeer>) -> Self {
        local.map(Self::Local).or(certificate.map(Self::Certificate)).unwrap_or(Self::Nothing)
    }
}

/// The middleware.
pub async fn authenticate(
    authenticator: web::Data<Live<Authenticator>>,
    admission: web::Data<Live<Admission>>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let (admission, now) = (admission.get(), Instant::now());
    let client = if let Some(local) = request.conn_data() {
        Client::local(local)
    } else {
        // A peer that has gone already has no address any more.
        let peer = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        admission.proxies().client(peer, request.headers())
    };
    let admitted = admission.of_client(&client, now).and_then(|()| {
        let credential = Credential::parse(request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes));
        let actor = authenticator.get().actor(credential, Known::of(request.conn_data(), request.conn_data()));
        let admitted = admission.of_actor(&client, &actor, now);
        request.extensions_mut().insert(actor);
        admitted
    });
    request.extensions_mut().insert(client);
    if let Err(refusal) = admitted {
        request.extensions_mut().insert(refusal);
    }
    next.call(request).await
}
