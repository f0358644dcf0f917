//! Whether a caller may still have what he is being sent: for answers that go on for longer than a credential may be good.
//!
//! What he has shown is looked at anew each time, by what is in force then. So it makes no difference why it is not accepted any more:
//! it has expired, it was called back, its key or its role is gone.

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use zeroize::Zeroizing;

use super::authenticate::Known;
use super::{Actor, Authenticator, ClientCertificate, Credential, LocalPeer, Permission, Refusal, authorize};
use crate::host::clock::Moment;
use crate::live::Live;

/// What a caller has shown, and what he needs.
pub struct Standing {
    authenticator: Live<Authenticator>,
    permission: Permission,
    authorization: Vec<Zeroizing<Vec<u8>>>,
    certificate: Option<ClientCertificate>,
    local: Option<LocalPeer>,
}

impl Standing {
    /// That of the caller of `request`, who needs `permission`.
    pub fn of(request: &HttpRequest, permission: Permission, authenticator: Live<Authenticator>) -> Self {
        let values = request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes);
        let authorization = values.map(|value| Zeroizing::new(value.to_owned())).collect();
        let (certificate, local) = (request.conn_data().cloned(), request.conn_data().cloned());
        Self { authenticator, permission, authorization, certificate, local }
    }

    /// Whether he may have it now; and when what he has shown expires, in seconds from 1970, where it does.
    pub fn check(&self) -> Result<Option<i64>, Refusal> {
        let credential = Credential::parse(self.authorization.iter().map(|value| value.as_slice()));
        let known = Known::of(self.certificate.as_ref(), self.local.as_ref());
        let actor = self.authenticator.get().actor(credential, known, Moment::now().wall_clock_s());
        authorize(&actor, self.permission)?;
        let Actor { expires_at_s, .. } = *actor;
        Ok(expires_at_s)
    }
}
