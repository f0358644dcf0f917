//! The subject of a certificate as text (RFC 5280, section 4.1.2.6; RFC 4514).
//!
//! Written as `openssl x509 -noout -subject -nameopt RFC2253,utf8,-esc_msb` does, so that an operator can copy it. What can't be read
//! gives an empty text, and nobody has roles under that.

use std::fmt::Write as _;

use crate::auth::is_unprintable;
use crate::der::{Der, OBJECT_IDENTIFIER, SEQUENCE};

/// Bytes that a subject has at most; a longer one ends in `...`, and is nobody's name then.
const MAX_BYTES: usize = 256;

const SET: u8 = 0x31;
/// `UTF8String`, `PrintableString`, `IA5String`: the types of text that are their own UTF-8.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// Attributes that have a name, by their object identifiers in DER.
const NAMES: [(&[u8], &str); 11] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// The subject whose parts are `name`.
pub(super) fn of(name: Der<'_>) -> String {
    let mut text = written(name).unwrap_or_default();
    if text.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES - 3).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// The parts of a name from the last one to the first one (RFC 4514, section 2.1).
fn written(mut name: Der<'_>) -> Option<String> {
    let mut parts = Vec::new();
    while !name.is_at_end() {
        let mut attributes = name.next(SET)?;
        let mut together = Vec::new();
        while !attributes.is_at_end() {
            together.push(attribute_text(attributes.next(SEQUENCE)?)?);
        }
        parts.push(together.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute_text(mut attribute: Der<'_>) -> Option<String> {
    let oid = attribute.next(OBJECT_IDENTIFIER)?.0;
    let value = attribute.0;
    let (tag, contents) = attribute.any()?;
    let named = NAMES.iter().find(|(known, _)| *known == oid);
    match (named, TEXTS.contains(&tag).then(|| std::str::from_utf8(contents.0).ok()).flatten()) {
        (Some((_, name)), Some(text)) => Some(format!("{name}={}", escaped(text))),
        (Some((_, name)), None) => Some(format!("{name}=#{}", hexadecimal(value))),
        (None, _) => Some(format!("{}=#{}", dotted(oid), hexadecimal(value))),
    }
}

/// A value (RFC 4514, section 2.4). Characters that act on a terminal or a log become their bytes, too.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let at_edge = at == 0 && matches!(character, ' ' | '#') || at == last && character == ' ';
        if is_unprintable(character) {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                write!(text, "\\{byte:02X}").expect("writing to a String does not fail");
            }
            continue;
        }
        if at_edge || matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").expect("writing to a String does not fail");
        text
    })
}

/// An object identifier in its usual form (X.690, section 8.19).
fn dotted(oid: &[u8]) -> String {
    let (mut arcs, mut arc) = (Vec::new(), 0_u64);
    for &byte in oid {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    let first = arcs.first().copied().unwrap_or_default();
    let root = (first / 40).min(2);
    let rest = arcs.iter().skip(1).map(u64::to_string);
    [root.to_string(), (first - root * 40).to_string()].into_iter().chain(rest).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;
    use crate::tls::certificate::read;

    fn subject(parts: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        read(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).subject
    }

    #[test]
    fn a_subject_is_written_as_the_standard_has_it() {
        let parts = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Example, \"Ltd\""),
            (DnType::CommonName, " fleet-manager "),
        ];
        assert_eq!(subject(&parts), r#"CN=\ fleet-manager\ ,O=Example\, \"Ltd\",C=DE"#);
        assert_eq!(subject(&[(DnType::CustomDnType(vec![1, 2, 840, 99999]), "x")]), "1.2.840.99999=#0C0178");
        assert_eq!(subject(&[]), "");
    }

    #[test]
    fn nothing_in_a_subject_acts() {
        assert_eq!(subject(&[(DnType::CommonName, "a\u{1b}[2J\r\nb\u{202e}")]), "CN=a\\1B[2J\\0D\\0Ab\\E2\\80\\AE");
    }

    #[test]
    fn a_long_subject_is_nobodys() {
        let long = subject(&[(DnType::CommonName, &"é".repeat(300))]);
        assert!(long.len() <= MAX_BYTES && long.ends_with("..."), "{long}");
    }
}
