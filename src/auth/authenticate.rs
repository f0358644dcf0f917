//! Finds out who calls.
//!
//! Names the [`Caller`] of every request, before `audit` opens its entry. It never answers: what a bad credential or a limit leads to
//! happens after the call has an entry. Nothing in it waits, so it is a function and not a service around the others, and who calls is
//! handed on and not attached to the request: each would cost every call an allocation.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};

use super::{
    Actor, Admission, CertificateRoles, Client, ClientCertificate, Credential, LocalPeer, PermissionSet, Refusal,
    TimeFloor, TokenError, TokenVerifier,
};
use crate::host::clock::Moment;
use crate::live::Held;

/// Turns what a request brings into an [`Actor`].
#[derive(Debug)]
pub struct Authenticator {
    verifier: TokenVerifier,
    anonymous: Arc<Actor>,
    certificates: CertificateRoles,
    time_floor: Arc<TimeFloor>,
}

impl Authenticator {
    /// An authenticator that accepts what `verifier` accepts; who shows a certificate and no token is whom `certificates` says, and
    /// callers without either hold `anonymous`. While the clock is before `time_floor`, no token and no certificate is accepted.
    pub fn new(
        verifier: TokenVerifier,
        anonymous: PermissionSet,
        certificates: CertificateRoles,
        time_floor: Arc<TimeFloor>,
    ) -> Self {
        Self { verifier, anonymous: Arc::new(Actor::anonymous(anonymous)), certificates, time_floor }
    }

    /// A token counts more than what is known of the connection: who sends one speaks for whom it names. A bad token is refused and
    /// not made up for by a good certificate, nor by a user. The time is in seconds from 1970.
    pub(super) fn actor(&self, credential: Credential<'_>, connection: Known<'_>, now_s: i64) -> Arc<Actor> {
        let accepted = match (credential, connection) {
            (Credential::None, Known::Certificate(certificate)) => {
                self.check_clock(now_s).map(|()| self.certificates.actor(certificate, now_s))
            }
            (Credential::None, Known::Local(peer)) => Ok(peer.actor(self.anonymous.permissions)),
            (Credential::None, Known::Nothing) => Ok(Arc::clone(&self.anonymous)),
            (Credential::Unusable(reason), _) => Ok(Arc::new(Actor::refused(reason.to_owned()))),
            (Credential::Bearer(token), _) => self.bearer(token, now_s),
        };
        accepted.unwrap_or_else(|error| {
            log::debug!("a credential is refused: {error}");
            Arc::new(Actor::refused(error.told()))
        })
    }

    fn bearer(&self, token: &str, now_s: i64) -> Result<Arc<Actor>, TokenError> {
        let signed = self.verifier.signed(token)?;
        // Nobody is told of this node's clock but who has shown something.
        self.check_clock(now_s)?;
        let actor = self.verifier.accept(&signed, now_s)?;
        // From now on an earlier clock is wrong.
        signed.witnessed_s().inspect(|&been_s| self.time_floor.raise(been_s));
        Ok(actor)
    }

    /// What has expired would live again under a clock that is behind.
    fn check_clock(&self, now_s: i64) -> Result<(), TokenError> {
        if self.time_floor.is_before(now_s, self.verifier.leeway_s()) { Err(TokenError::ClockBehind) } else { Ok(()) }
    }
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

/// Who calls, and since when.
#[derive(Clone, Debug)]
pub struct Caller {
    /// When the call came.
    pub came: Moment,
    /// The same, to measure how long it takes.
    pub begun: Instant,
    /// Whom the call counts for.
    pub client: Client,
    /// Who was authenticated.
    pub actor: Arc<Actor>,
    /// Why it is one call too many, if it is.
    pub limited: Option<Refusal>,
}

impl Default for Caller {
    /// Nobody, now.
    fn default() -> Self {
        let (came, begun) = (Moment::now(), Instant::now());
        Self { came, begun, client: Client::unknown(), actor: Arc::default(), limited: None }
    }
}

/// Who calls with this request.
pub fn authenticate(
    authenticator: &Held<Authenticator>,
    admission: &Held<Admission>,
    request: &ServiceRequest,
) -> Caller {
    let (came, begun, admission) = (Moment::now(), Instant::now(), admission.get());
    let local = request.conn_data();
    let client = if let Some(local) = local {
        Client::local(local)
    } else {
        // A peer that has gone already has no address any more.
        let peer = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        admission.proxies().client(peer, request.headers())
    };
    if let Err(refusal) = admission.of_client(&client, begun) {
        // Who has called too often is not even asked who he is.
        return Caller { came, begun, client, actor: Arc::default(), limited: Some(refusal) };
    }
    let credential = Credential::parse(request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes));
    let known = Known::of(request.conn_data(), local);
    let actor = authenticator.get().actor(credential, known, came.wall_clock_s());
    let limited = admission.of_actor(&client, &actor, begun).err();
    Caller { came, begun, client, actor, limited }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::auth::{Grant, Keys, RevokedTokens, Roles, Rules, SigningKey, TokenIssuer};

    const HOUR_S: i64 = 3_600;

    /// An authenticator with these keys, and its floor, which nothing but tokens raises.
    fn authenticator(keys: &[&SigningKey]) -> (Authenticator, Arc<TimeFloor>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let time_floor = Arc::new(TimeFloor::open(folder.path()));
        let rules =
            Rules { leeway_s: 5, max_lifetime_s: None, issuers: Vec::new(), audiences: vec!["node".to_owned()] };
        let known = Roles::new(&BTreeMap::new());
        let keys = Keys::of(keys.iter().map(|key| key.verifying().clone()).collect());
        let verifier = TokenVerifier::new(keys, known.clone(), rules, RevokedTokens::default());
        let certificates = CertificateRoles::new(BTreeMap::new(), known);
        let authenticator = Authenticator::new(verifier, PermissionSet::EMPTY, certificates, Arc::clone(&time_floor));
        (authenticator, time_floor, folder)
    }

    fn token(key: &SigningKey, issued_s: i64) -> String {
        let audience = Some("node".to_owned());
        let grant = Grant { subject: "ada".to_owned(), lifetime_s: 600, audience, ..Grant::default() };
        TokenIssuer::new(key).issue(&grant, issued_s).unwrap()
    }

    #[test]
    fn a_fleets_token_is_a_witness_of_the_time_and_what_a_node_can_sign_is_none() {
        let (own, fleets) = (SigningKey::from_secret(&[7; 32]).unwrap(), SigningKey::random_ed25519().unwrap());
        let (authenticator, floor, _folder) = authenticator(&[&own, &fleets]);
        let now_s = Moment::now().wall_clock_s();
        for (key, is_witness) in [(&own, false), (&fleets, true)] {
            let actor = authenticator.actor(Credential::Bearer(&token(key, now_s)), Known::Nothing, now_s);
            assert_eq!((actor.user.as_str(), &actor.refused), ("ada", &None));
            assert_eq!(floor.is_before(now_s - 1, 0), is_witness);
        }
    }

    #[test]
    fn while_the_clock_is_behind_nothing_is_accepted_and_who_has_shown_something_is_told_why() {
        let (key, other) = (SigningKey::random_ed25519().unwrap(), SigningKey::random_ed25519().unwrap());
        let (authenticator, floor, _folder) = authenticator(&[&key]);
        let now_s = Moment::now().wall_clock_s();
        let certificate = ClientCertificate { subject: "CN=ada".to_owned(), not_after_s: now_s + 9 * HOUR_S };
        let told = |credential: Credential<'_>, known: Known<'_>| {
            let actor = authenticator.actor(credential, known, now_s);
            (actor.user.clone(), actor.refused.clone())
        };
        let (good, forged) = (token(&key, now_s), token(&other, now_s));
        assert_eq!(told(Credential::Bearer(&good), Known::Nothing), ("ada".to_owned(), None));
        assert_eq!(told(Credential::None, Known::Certificate(&certificate)), ("CN=ada".to_owned(), None));
        let stranger = told(Credential::Bearer(&forged), Known::Nothing);
        floor.raise(now_s + HOUR_S);
        let behind = (String::new(), Some("this node's clock is behind a time that has been".to_owned()));
        assert_eq!(told(Credential::Bearer(&good), Known::Nothing), behind);
        assert_eq!(told(Credential::None, Known::Certificate(&certificate)), behind);
        assert_eq!(told(Credential::Bearer(&forged), Known::Nothing), stranger, "he learns nothing of the clock");
        assert_eq!(told(Credential::None, Known::Nothing), (String::new(), None));
    }
}
