//! Keys as text: PEM (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::key_error::KeyFormatError;

const BEGIN: &str = "-----BEGIN ";

/// Whether the text is PEM, perhaps with something before it.
pub(super) fn is_pem(text: &[u8]) -> bool {
    text.windows(BEGIN.len()).any(|part| part == BEGIN.as_bytes())
}

/// The label and the bytes of the one key in a text. What stands before and after it is no matter.
pub(super) fn one_block(text: &[u8]) -> Result<(&str, Zeroizing<Vec<u8>>), KeyFormatError> {
    let text = std::str::from_utf8(text).map_err(|_| KeyFormatError::Pem)?;
    let Block { label, body, after } = next_block(text).ok_or(KeyFormatError::Pem)?;
    if after.contains(BEGIN) {
        return Err(KeyFormatError::Several);
    }
    Ok((label, decoded(body)?))
}

/// The label and the bytes of the first private key in a text, in which other things may stand: certificates, parameters.
pub(crate) fn private_block(text: &[u8]) -> Result<(&str, Zeroizing<Vec<u8>>), KeyFormatError> {
    let mut text = std::str::from_utf8(text).map_err(|_| KeyFormatError::Pem)?;
    let mut missing = KeyFormatError::NoPrivate;
    while text.contains(BEGIN) {
        let Block { label, body, after } = next_block(text).ok_or(KeyFormatError::Pem)?;
        match label {
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => return Ok((label, decoded(body)?)),
            "ENCRYPTED PRIVATE KEY" => missing = KeyFormatError::Encrypted,
            _ => {}
        }
        text = after;
    }
    Err(missing)
}

struct Block<'a> {
    label: &'a str,
    body: &'a str,
    after: &'a str,
}

fn next_block(text: &str) -> Option<Block<'_>> {
    let (_, block) = text.split_once(BEGIN)?;
    let (label, rest) = block.split_once("-----")?;
    let (body, after) = rest.split_once(&format!("-----END {label}-----"))?;
    Some(Block { label, body, after })
}

fn decoded(body: &str) -> Result<Zeroizing<Vec<u8>>, KeyFormatError> {
    let mut digits = Zeroizing::new(String::with_capacity(body.len()));
    digits.extend(body.chars().filter(|digit| !digit.is_ascii_whitespace()));
    // As long as it can become: it is a secret, and a Vec that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len()));
    STANDARD.decode_vec(digits.as_bytes(), &mut bytes).map_err(|_| KeyFormatError::Pem)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_found_between_other_text_and_whatever_its_lines_end_with() {
        for text in [
            "-----BEGIN PUBLIC KEY-----\nYWJj\nZGVm\n-----END PUBLIC KEY-----\n",
            "subject=x\r\n-----BEGIN PUBLIC KEY-----\r\nYWJjZGVm\r\n-----END PUBLIC KEY-----",
        ] {
            let (label, bytes) = one_block(text.as_bytes()).unwrap();
            assert_eq!((label, bytes.as_slice()), ("PUBLIC KEY", b"abcdef".as_slice()));
        }
    }

    #[test]
    fn the_private_key_is_found_among_other_blocks() {
        let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        let found =
            |text: &str| private_block(text.as_bytes()).map(|(label, bytes)| (label.to_owned(), bytes.to_vec()));
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let text = [block("EC PARAMETERS", "?"), block(label, "YWJj\nZGVm"), block("CERTIFICATE", "?")].concat();
            assert_eq!(found(&text), Ok((label.to_owned(), b"abcdef".to_vec())));
        }
        let twice = [block("PRIVATE KEY", "YWJj"), block("PRIVATE KEY", "ZGVm")].concat();
        assert_eq!(found(&twice).unwrap().1, b"abc", "the first one");
        for (text, error) in [
            ("", KeyFormatError::NoPrivate),
            (&block("CERTIFICATE", "YWJj"), KeyFormatError::NoPrivate),
            (&block("OPENSSH PRIVATE KEY", "YWJj"), KeyFormatError::NoPrivate),
            (&block("ENCRYPTED PRIVATE KEY", "YWJj"), KeyFormatError::Encrypted),
            (&block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nYWJj"), KeyFormatError::Pem),
            ("-----BEGIN PRIVATE KEY-----\nYWJj", KeyFormatError::Pem),
        ] {
            assert_eq!(found(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_no_block_or_more_than_one_is_refused() {
        let block = "-----BEGIN PUBLIC KEY-----\nYWJj\n-----END PUBLIC KEY-----\n";
        assert_eq!(one_block(block.repeat(2).as_bytes()), Err(KeyFormatError::Several));
        for text in ["", "-----BEGIN ", "-----BEGIN A-----\nYWJj\n-----END B-----", &block.replace('Y', "!")] {
            assert_eq!(one_block(text.as_bytes()), Err(KeyFormatError::Pem), "{text}");
        }
        assert_eq!(one_block(b"-----BEGIN \xff-----"), Err(KeyFormatError::Pem));
    }
}
