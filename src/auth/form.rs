//! What the bytes of a file plainly are, whatever they are meant to be.
//!
//! Editors put a mark before a text, and people put the wrong file somewhere. Knows nothing of where the bytes come from.

use crate::der::{Der, SEQUENCE};

/// The byte order mark that some editors write before UTF-8 (RFC 3629, section 6).
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The text without the mark before it, which is no part of it.
pub(super) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Whether the text is meant to be JSON: it begins as an object, a list or a string does, and no PEM does.
pub(super) fn is_json(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'))
}

/// What the contents of a file are, where that is plainly no shared secret. Much of it is public, or is not what other programs sign with.
pub(super) fn no_secret(contents: &[u8]) -> Option<&'static str> {
    let begins =
        |with: &str| contents.trim_ascii_start().get(..with.len()).is_some_and(|begin| begin == with.as_bytes());
    if contents.starts_with(MARK) || is_utf16(contents) {
        return Some("text with a byte order mark, which other programs would not sign with");
    }
    if ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "---- BEGIN SSH2 ", "PuTTY-User-Key-File"]
        .into_iter()
        .any(begins)
    {
        return Some("a key of SSH");
    }
    if is_json(contents) {
        return Some("JSON, as a JSON Web Key is");
    }
    is_der(contents).then_some("a key or a certificate in DER")
}

/// Text of two bytes a character with its mark; of a random secret that begins with one, the next character would hardly be ASCII.
fn is_utf16(contents: &[u8]) -> bool {
    matches!(contents, [0xff, 0xfe, 1..=0x7f, 0, ..] | [0xfe, 0xff, 0, 1..=0x7f, ..])
}

/// One sequence that begins with an element of its own: every key and certificate is that, and one of a million random secrets.
fn is_der(contents: &[u8]) -> bool {
    Der(contents)
        .whole(SEQUENCE)
        .and_then(|mut inside| inside.any())
        .is_some_and(|(tag, _)| matches!(tag, SEQUENCE | 0x02))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plainly_something_else_is_no_secret() {
        let hexadecimal = |text: &str| {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect::<Vec<_>>()
        };
        // RFC 8410, sections 10.1 and 10.3.
        let public =
            hexadecimal("302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1");
        let private = hexadecimal(
            "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842",
        );
        let others: [(&[u8], &str); 12] = [
            (b"\xef\xbb\xbf0123456789012345678901234567890123456789", "byte order mark"),
            (b"\xff\xfe0\x001\x002\x003\x00", "byte order mark"),
            (b"\xfe\xff\x000\x001\x002\x003", "byte order mark"),
            (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz4IMJ5 ada@example.com\n", "SSH"),
            (b"\n ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= a\n", "SSH"),
            (b"sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2g=\n", "SSH"),
            (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "SSH"),
            (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "SSH"),
            (br#" {"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}"#, "JSON"),
            (br#"[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ"}]"#, "JSON"),
            (&public, "DER"),
            (&private, "DER"),
        ];
        for (contents, what) in others {
            let told = no_secret(contents).unwrap_or_else(|| panic!("{contents:?} is taken"));
            assert!(told.contains(what), "{contents:?}: {told}");
        }
    }

    #[test]
    fn a_secret_that_begins_with_almost_any_byte_is_one() {
        for byte in 0..=u8::MAX {
            let is_json = matches!(byte, b'{' | b'[' | b'"');
            assert_eq!(no_secret(&[byte; 32]).is_some(), is_json, "{byte:x}");
        }
        for secret in [
            &b"\xff\xfe a secret of random bytes"[..],
            b"0\x1e\x99 DER by its length alone \xff\xff\xff",
            b"my ssh-ed25519 secret",
            b"0*",
        ] {
            assert_eq!(no_secret(secret), None, "{secret:?}");
        }
    }
}
