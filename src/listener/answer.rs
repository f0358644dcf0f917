//! The body of a response, which tells the connection when all of it was taken: then the next request may come through.

use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use crate::audit::connection::Watch;

/// A body, and the connection that waits for its end.
pub(super) struct Answer {
    body: BoxBody,
    _end: End,
}

struct End(Option<Rc<Watch>>);

impl Answer {
    pub(super) const fn new(body: BoxBody, watch: Option<Rc<Watch>>) -> Self {
        Self { body, _end: End(watch) }
    }
}

impl MessageBody for Answer {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.answered();
        }
    }
}
