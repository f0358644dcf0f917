//! A node's own key, with a certificate that it signs itself or a request for one that an authority signs.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use ring::digest::{SHA256, digest};
use time::{Duration, OffsetDateTime};

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Host names; the first one is the common name.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// What is made: texts in PEM.
pub struct Identity {
    /// The private key (ECDSA over P-256, PKCS #8): a secret.
    pub key: String,
    /// The certificate, or the request for one.
    pub certificate: String,
    /// SHA-256 of the certificate in DER; of a request there is none.
    pub fingerprint: Option<String>,
}

/// Why nothing is made.
#[derive(Debug, thiserror::Error)]
#[error("can't make a certificate for these names")]
pub struct IdentityError(#[from] rcgen::Error);

impl Identity {
    /// A new key and a certificate that it signs itself, good for so many days.
    pub fn self_signed(subject: &Subject, days: u16) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = params(subject)?;
        // A day is left for clocks that differ.
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days.into());
        params.is_ca = IsCa::ExplicitNoCa;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            key: key.serialize_pem(),
            fingerprint: Some(fingerprint(certificate.der())),
            certificate: certificate.pem(),
        })
    }

    /// A new key and a request for a certificate (RFC 2986).
    pub fn request(subject: &Subject) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let certificate = params(subject)?.serialize_request(&key)?.pem()?;
        Ok(Self { key: key.serialize_pem(), certificate, fingerprint: None })
    }
}

/// The SHA-256 of a certificate in DER, as `openssl x509 -fingerprint -sha256` writes it.
pub fn fingerprint(der: &[u8]) -> String {
    let sum = digest(&SHA256, der);
    sum.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn params(subject: &Subject) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::new(subject.names.clone())?;
    params.subject_alt_names.extend(subject.addresses.iter().map(|&address| SanType::IpAddress(address)));
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = subject.names.first() {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}
