//! JSON bodies that are written straight from rows, and what answers can't show.

use actix_web::body::BoxBody;
use actix_web::http::header::{ContentType, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, Responder};

/// Says how many entries are recorded but can't be shown, because the store can't write them now.
const AUDIT_PENDING: HeaderName = HeaderName::from_static("audit-pending");

/// How many entries are recorded but not visible to readers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending(pub(super) u64);

impl Pending {
    /// Says so in a response.
    pub(super) fn tell(self, response: &mut HttpResponseBuilder) {
        if self.0 > 0 {
            response.insert_header((AUDIT_PENDING, self.0));
        }
    }
}

/// A JSON body, and what it can't show.
pub(super) struct Json {
    pub(super) body: Vec<u8>,
    pub(super) pending: Pending,
}

impl Responder for Json {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response.insert_header(ContentType::json());
        self.pending.tell(&mut response);
        response.body(self.body)
    }
}
