//! A page that was read, as an answer: its body, and what headers say of it.

use actix_web::body::BoxBody;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, LINK};
use actix_web::{HttpRequest, HttpResponse, Responder};
use uuid::Uuid;

use crate::api::encoding::Encoding;
use crate::api::format::Format;
use crate::api::json::Pending;
use crate::api::links::Links;
use crate::audit::{Gap, Seq};

/// The ring that a page is of.
const AUDIT_EPOCH: HeaderName = HeaderName::from_static("audit-epoch");

/// The `seq` of the newest entry that a list newest first can have: the newest one when its first page was made.
const AUDIT_AS_OF: HeaderName = HeaderName::from_static("audit-as-of");

/// How many entries there are in all, where the page says so.
const AUDIT_TOTAL_ITEMS: HeaderName = HeaderName::from_static("audit-total-items");

/// Whether there is something to read behind a page by a cursor.
const AUDIT_MORE: HeaderName = HeaderName::from_static("audit-more");

/// What should be in the page and is not there any more, as JSON.
const AUDIT_GAP: HeaderName = HeaderName::from_static("audit-gap");

/// A page as it was read.
pub(in crate::api) struct ReadPage {
    pub(super) body: Vec<u8>,
    pub(super) format: Format,
    pub(super) epoch: Uuid,
    pub(super) as_of: Option<Seq>,
    pub(super) total: Option<u64>,
    pub(super) more: Option<bool>,
    pub(super) gap: Option<Gap>,
    pub(super) links: Links,
    pub(super) pending: Pending,
}

impl ReadPage {
    /// Whether all that was recorded before it could be shown.
    pub(in crate::api) const fn is_whole(&self) -> bool {
        self.pending.0 == 0
    }
}

impl Responder for ReadPage {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let Self { body, format, epoch, as_of, total, more, gap, links, pending } = self;
        let mut response = HttpResponse::Ok();
        response.insert_header((CONTENT_TYPE, format.media_type())).insert_header((AUDIT_EPOCH, epoch.to_string()));
        if let Some(total) = total {
            response.insert_header((AUDIT_TOTAL_ITEMS, total));
        }
        if let Some(more) = more {
            response.insert_header((AUDIT_MORE, if more { "true" } else { "false" }));
        }
        if let Some(gap) = gap {
            response.insert_header((AUDIT_GAP, serde_json::to_string(&gap).expect("a gap is plain data")));
        }
        if let Some(as_of) = as_of {
            response.insert_header((AUDIT_AS_OF, as_of.0));
        }
        if let Some(links) = links.header() {
            response.insert_header((LINK, links));
        }
        pending.tell(&mut response);
        let body = Encoding::accepted(request).whole(body, &mut response);
        response.body(body)
    }
}
