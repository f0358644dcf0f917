//! Compression of what is served, where the caller accepts it (RFC 9110, section 12.5.3).

use std::io::Write as _;

use actix_web::HttpRequest;
use actix_web::HttpResponseBuilder;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, HeaderValue, VARY};
use flate2::Compression;
use flate2::write::GzEncoder;

/// A body below this is hardly smaller compressed.
const BYTES_MIN: usize = 1024;

/// What of a request decides which form an answer has.
pub(super) const VARIES: (HeaderName, HeaderValue) = (VARY, HeaderValue::from_static("accept, accept-encoding"));

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Identity,
    /// Compressed with gzip (RFC 1952).
    Gzip,
}

impl Encoding {
    /// The encoding that the caller prefers.
    pub(super) fn accepted(request: &HttpRequest) -> Self {
        let accepted = request.headers().get_all(ACCEPT_ENCODING).filter_map(|value| value.to_str().ok());
        Self::preferred(accepted)
    }

    fn preferred<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let (mut gzip, mut identity, mut any) = (None, None, None);
        for coding in headers.flat_map(|header| header.split(',')) {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = Some(weight(parts));
            match name.as_str() {
                "gzip" | "x-gzip" => gzip = weight,
                "identity" => identity = weight,
                "*" => any = weight,
                _ => {}
            }
        }
        // What is not named has the weight of `*`; without that, only `identity` is acceptable, after everything named.
        let gzip = gzip.or(any).unwrap_or(0);
        let identity = identity.or(any).unwrap_or(1);
        if gzip > 0 && gzip >= identity { Self::Gzip } else { Self::Identity }
    }

    /// Writes a whole body, and says how in the response.
    pub(super) fn whole(self, body: Vec<u8>, response: &mut HttpResponseBuilder) -> Vec<u8> {
        let encoding = if body.len() < BYTES_MIN { Self::Identity } else { self };
        encoding.tell(response);
        let mut encoder = encoding.encoder();
        let mut sent = encoder.push(body);
        sent.extend(encoder.finish());
        sent
    }

    /// Says in the response how its body is written.
    pub(super) fn tell(self, response: &mut HttpResponseBuilder) {
        response.insert_header(VARIES);
        if self == Self::Gzip {
            response.insert_header((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
    }

    /// What writes a body piece by piece.
    pub(super) fn encoder(self) -> Encoder {
        // The fastest: on a board the processor is scarcer than the network.
        let gzip = || Box::new(GzEncoder::new(Vec::new(), Compression::fast()));
        Encoder((self == Self::Gzip).then(gzip))
    }
}

/// A weight in thousandths (RFC 9110, section 12.4.2); 1000 where none is given, 0 where it is none.
pub(super) fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> u16 {
    let Some(weight) = parameters.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q="))) else {
        return 1_000;
    };
    let thousandths = weight.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0) * 1_000.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 1000")]
    let thousandths = thousandths as u16;
    thousandths
}

/// Writes a body piece by piece.
pub(super) struct Encoder(Option<Box<GzEncoder<Vec<u8>>>>);

impl Encoder {
    /// What can be sent after these bytes came. May be nothing yet.
    pub(super) fn push(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let Some(gzip) = &mut self.0 else { return bytes };
        gzip.write_all(&bytes).expect("a Vec takes every write");
        std::mem::take(gzip.get_mut())
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.0.take().map_or_else(Vec::new, |gzip| gzip.finish().expect("a Vec takes every write"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_encoding_is_what_the_caller_weighs_most() {
        for header in
            ["gzip", "GZIP", "br, x-gzip;q=0.5", "*", "identity;q=0.3, gzip;q=0.3", "gzip;q=0.001", "identity;q=0, *"]
        {
            assert_eq!(Encoding::preferred([header].into_iter()), Encoding::Gzip, "{header}");
        }
        for header in
            ["", "br", "gzip;q=0", "gzip;q=0.2, identity;q=0.3", "*;q=0", "gzip;q=2", "gzip;q=x", "gzip; q=0.000"]
        {
            assert_eq!(Encoding::preferred([header].into_iter()), Encoding::Identity, "{header}");
        }
        assert_eq!(Encoding::preferred(["br", "gzip"].into_iter()), Encoding::Gzip);
    }

    #[test]
    fn pieces_are_one_body() {
        let mut encoder = Encoding::Gzip.encoder();
        let mut sent = encoder.push(b"one ".to_vec());
        sent.extend(encoder.push(b"two ".to_vec()));
        sent.extend(encoder.push(b"three".to_vec()));
        sent.extend(encoder.finish());
        let mut whole = String::new();
        flate2::read::GzDecoder::new(&sent[..]).read_to_string(&mut whole).unwrap();
        assert_eq!(whole, "one two three");
    }
}
