//! Texts as they stand in a query.

use std::fmt::Write as _;

/// Percent-encodes what is not unreserved (RFC 3986, section 2.3).
pub(crate) fn encode(encoded: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
}
