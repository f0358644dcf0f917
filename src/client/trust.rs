//! Whom a caller trusts over TLS, and the certificate that he shows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::tls::{TlsError, certificates, identity, roots};

/// Where systems keep the authorities that they trust: Debian and its kin, Fedora and its kin.
const SYSTEM_AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The SHA-256 of the one certificate that an agent must show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// Why a text is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the SHA-256 of a certificate: 32 bytes in hexadecimal, with colons between them or without")]
pub struct PinError;

impl Pin {
    /// Reads a fingerprint as `nodeaudit tls init` and `openssl x509 -fingerprint -sha256` print it.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        let has_colons = text.contains(':');
        let bytes = text.as_bytes();
        let pairs =
            if has_colons { bytes.split(|&byte| byte == b':').collect() } else { bytes.chunks(2).collect::<Vec<_>>() };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            &[high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let read = pairs.into_iter().map(byte).collect::<Option<Vec<_>>>().ok_or(PinError)?;
        read.try_into().map(Self).map_err(|_| PinError)
    }

    fn matches(self, certificate: &CertificateDer<'_>) -> bool {
        digest(&SHA256, certificate).as_ref() == self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whom a caller trusts, and what he shows.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Authorities in PEM; where there is none, those of the system.
    pub authorities: Option<PathBuf>,
    /// The certificate that is trusted whoever signed it, whatever names and dates are in it, and the only one.
    pub pin: Option<Pin>,
    /// Certificate chain and key to show, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Trust {
    /// What TLS needs of it, as the files are now.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("ring has suites of TLS 1.2 and 1.3");
        let builder = match self.pin {
            Some(pin) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { pin, provider })),
            None => builder.with_root_certificates(self.roots()?),
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_cert_resolver(identity(certificate, certificates(certificate)?, key)?)
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        if let Some(authorities) = &self.authorities {
            return roots(authorities);
        }
        let found = SYSTEM_AUTHORITIES.into_iter().map(Path::new).find(|path| path.exists());
        let Some(found) = found else { return Ok(RootCertStore::empty()) };
        let mut roots = RootCertStore::empty();
        // One that can't be read is one that proves nothing; the others hold.
        roots.add_parsable_certificates(certificates(found)?);
        Ok(roots)
    }
}

/// Trusts one certificate. The handshake proves that the agent has its key.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pin.matches(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_what_tls_init_prints_in_any_case_and_with_or_without_colons() {
        let printed = crate::tls::fingerprint(b"certificate");
        let pin = Pin::parse(&printed).unwrap();
        assert!(pin.matches(&CertificateDer::from(b"certificate".to_vec())));
        assert!(!pin.matches(&CertificateDer::from(b"certificate ".to_vec())));
        assert_eq!(Pin::parse(&printed.replace(':', "").to_lowercase()), Ok(pin));
        let cut = &printed[..printed.len() - 3];
        for text in [
            "",
            ":",
            cut,
            &format!("{printed}:00"),
            &printed.replacen(':', "", 1),
            &printed.replace('A', "G").replace('B', "+"),
        ] {
            assert_eq!(Pin::parse(text), Err(PinError), "{text}");
        }
    }
}
