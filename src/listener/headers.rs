//! Headers that every response has, whoever made it.
//!
//! They are for browsers that are led here, and for caches: an agent serves no page, so nothing of it is ever to be run, framed,
//! embedded, guessed at or kept. There is no CORS header: no page of another origin may read an answer. Nor is there HSTS: it would
//! hold for every other service on the node's name, too.

use actix_http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CROSS_ORIGIN_RESOURCE_POLICY, HeaderMap, HeaderValue, SERVER,
    X_CONTENT_TYPE_OPTIONS,
};

/// Names, as a type and as written, and values.
macro_rules! security {
    ($($name:ident, $written:literal, $value:literal;)*) => {
        /// Their lines, for an answer that the HTTP library makes.
        pub(super) const SECURITY_LINES: &str = concat!($($written, ": ", $value, "\r\n"),*);

        /// Gives them to a response; no handler has others.
        pub(super) fn secure(headers: &mut HeaderMap) {
            $(headers.insert($name, HeaderValue::from_static($value));)*
        }
    };
}

security! {
    // The name and no version, which would tell an attacker what to try.
    SERVER, "server", "nodeaudit";
    // What callers wrote and the ring gives back is data, whatever it looks like.
    X_CONTENT_TYPE_OPTIONS, "x-content-type-options", "nosniff";
    // Entries and readings are old at once, and not for whoever uses the same cache.
    CACHE_CONTROL, "cache-control", "no-store";
    // Shown as a page all the same, a body runs nothing, loads nothing and stands in no frame.
    CONTENT_SECURITY_POLICY, "content-security-policy", "default-src 'none'; frame-ancestors 'none'";
    // Nor does a page of another origin embed it.
    CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin-resource-policy", "same-origin";
}
