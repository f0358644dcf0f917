//! What of a request may be stored, and how much of it.
//!
//! Every text of a caller passes [`bounded`] before it becomes part of an entry: control characters are escaped, long texts
//! are cut with their length kept. Query values, headers other than those named in `Call`, bodies and refused tokens never get here.

use std::fmt::Write as _;

use crate::auth::is_unprintable;

/// Cap of the method, in bytes as stored.
pub const METHOD_MAX_BYTES: usize = 32;
/// Cap of the path, in bytes as stored.
pub const PATH_MAX_BYTES: usize = 1024;
/// Cap of the user agent, in bytes as stored.
pub const USER_AGENT_MAX_BYTES: usize = 256;

/// `text` as it is stored: at most `max_bytes` long, without a character that acts on a terminal, a log or a reading direction, or that
/// nobody sees.
///
/// Such a character becomes `\u{hex}`. A text that is too long ends in `...(N bytes)`, N being its length as received.
pub fn bounded(text: &str, max_bytes: usize) -> String {
    // Nearly every text is plain ASCII, which is seen without decoding it.
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~');
    if text.len() <= max_bytes && (text.as_bytes().iter().all(is_plain) || !text.contains(is_unprintable)) {
        return text.to_owned();
    }
    let tail = format!("...({} bytes)", text.len());
    let room = max_bytes.saturating_sub(tail.len());
    let mut stored = String::with_capacity(text.len().min(max_bytes));
    let mut cut_at = 0;
    for character in text.chars() {
        if is_unprintable(character) {
            write!(stored, "\\u{{{:x}}}", u32::from(character)).expect("writing to a String does not fail");
        } else {
            stored.push(character);
        }
        if stored.len() <= room {
            cut_at = stored.len();
        } else if stored.len() > max_bytes {
            stored.truncate(cut_at);
            stored.push_str(&tail);
            return stored;
        }
    }
    stored
}

/// The trace ID in a `traceparent` header (W3C Trace Context, version 00 and later), none where it has another form.
pub fn trace_id(traceparent: &[u8]) -> Option<[u8; 16]> {
    let traceparent = std::str::from_utf8(traceparent).ok()?;
    let (version, rest) = traceparent.split_once('-')?;
    let (trace_id, rest) = rest.split_once('-')?;
    let (parent_id, flags) = rest.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let known_form = version.len() == 2 && version != "ff" && parent_id.len() == 16 && flags.len() >= 2;
    if !known_form || trace_id.len() != 32 || ![version, trace_id, parent_id].into_iter().all(is_hex) {
        return None;
    }
    let id = u128::from_str_radix(trace_id, 16).ok()?;
    (id != 0).then(|| id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_is_stored_as_it_is() {
        assert_eq!(bounded("/node/hostname", PATH_MAX_BYTES), "/node/hostname");
        assert_eq!(bounded("DOMAIN\\user é", USER_AGENT_MAX_BYTES), "DOMAIN\\user é");
    }

    #[test]
    fn characters_that_act_are_escaped() {
        assert_eq!(bounded("a\u{1b}[31m\r\n\u{202e}b", 64), "a\\u{1b}[31m\\u{d}\\u{a}\\u{202e}b");
        assert_eq!(bounded("a\u{200b}\u{61c}\u{feff}b\u{200f}", 64), "a\\u{200b}\\u{61c}\\u{feff}b\\u{200f}");
    }

    #[test]
    fn a_long_text_is_cut_and_tells_its_length() {
        let stored = bounded(&"x".repeat(60_000), 64);
        assert_eq!(stored, format!("{}...(60000 bytes)", "x".repeat(64 - 16)));
        assert_eq!(bounded(&"x".repeat(64), 64), "x".repeat(64));
    }

    #[test]
    fn a_trace_id_is_taken_from_a_well_formed_traceparent_only() {
        let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(good), Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()));
        let bad: [&[u8]; 6] = [
            b"",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ];
        for traceparent in bad {
            assert_eq!(trace_id(traceparent), None, "{}", String::from_utf8_lossy(traceparent));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_stored_is_bounded_and_harmless(text in ".*", max_bytes in 32_usize..200) {
            let stored = bounded(&text, max_bytes);
            prop_assert!(stored.len() <= max_bytes);
            prop_assert!(!stored.contains(is_unprintable));
        }
    }
}
