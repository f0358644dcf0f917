//! What the agent reads of a caller's certificate (RFC 5280, section 4.1): its subject, and until when it is good.
//!
//! Reads certificates only that were verified before. In one that can't be read all the same nobody has a name, and it has never been
//! good.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::subject;
use crate::auth::ClientCertificate;
use crate::der::{Der, SEQUENCE};

const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate in DER.
pub(super) fn read(der: &[u8]) -> ClientCertificate {
    let (validity, name) = fields(Der(der)).unwrap_or((Der(&[]), Der(&[])));
    ClientCertificate { subject: subject::of(name), not_after_s: not_after_s(validity).unwrap_or(i64::MIN) }
}

/// The contents of validity and subject: past version, serial number, signature algorithm and issuer.
fn fields(mut certificate: Der<'_>) -> Option<(Der<'_>, Der<'_>)> {
    let mut fields = certificate.next(SEQUENCE)?.next(SEQUENCE)?;
    let before = if fields.tag() == Some(VERSION) { 4 } else { 3 };
    for _ in 0..before {
        fields.any()?;
    }
    Some((fields.next(SEQUENCE)?, fields.next(SEQUENCE)?))
}

/// The last second of a validity, from 1970 (RFC 5280, section 4.1.2.5).
fn not_after_s(mut validity: Der<'_>) -> Option<i64> {
    validity.any()?;
    let (tag, contents) = validity.any()?;
    let text = std::str::from_utf8(contents.0).ok()?;
    let text = match tag {
        // Two digits of a year from 1950 to 2049.
        UTC_TIME if text.as_bytes().first()? < &b'5' => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let mut parts = [4, 2, 2, 2, 2, 2].into_iter().scan(text.as_str(), |rest, length| {
        let (part, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(part)
    });
    let mut part = || parts.next();
    let (year, month, day, hour, minute, second) = (part()?, part()?, part()?, part()?, part()?, part()?);
    let time = OffsetDateTime::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"), &Rfc3339);
    Some(time.ok()?.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn good_until(at: OffsetDateTime) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        params.not_after = at;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_last_second_is_read_in_both_of_its_forms() {
        // The first is a UTCTime, the others are GeneralizedTimes; the last one is of certificates that have no end.
        for until_s in [1_795_651_199, 2_524_608_000, 253_402_300_799] {
            let der = good_until(OffsetDateTime::from_unix_timestamp(until_s).unwrap());
            assert_eq!(read(&der).not_after_s, until_s);
        }
        assert_eq!(read(&[]), ClientCertificate { subject: String::new(), not_after_s: i64::MIN });
        assert_eq!(not_after_s(Der(b"\x17\x00\x17\x0d990101000000Z")), Some(915_148_800), "a year before 2000");
        assert_eq!(not_after_s(Der(b"\x17\x00\x17\x04\xc3\xa9\xc3\xa9")), None, "it is cut between characters only");
    }

    proptest! {
        #[test]
        fn whatever_is_read_does_no_harm(der in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..400) {
            read(&der);
            let good = good_until(OffsetDateTime::UNIX_EPOCH);
            read(&good[..cut.min(good.len())]);
        }
    }
}
