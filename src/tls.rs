//! TLS: what the agent proves to callers, and they to it.
//!
//! Owns certificates, keys and the handshake. What it gives is a stream and, where the caller showed a certificate, its subject;
//! what that may do is `auth`'s to know. It knows nothing of HTTP.

mod certificate;
mod make;
mod subject;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore, ServerConfig, version};
use tokio_rustls::server::TlsStream;

use crate::auth::{ClientCertificate, FileError, GuardedFile, KeyFormatError, private_block};
use crate::config::{ClientAuth, TlsConfig, TlsVersion};
pub use make::{Identity, IdentityError, Subject, fingerprint};

/// Bytes that a file of certificates has at most: those of all authorities of the Web have a quarter of it.
const CERTIFICATES_MAX_BYTES: usize = 1 << 20;

/// Bytes of the certificates that the agent shows: callers over rustls or OpenSSL take no message of a handshake that is much longer.
const CHAIN_MAX_BYTES: usize = 60_000;

/// Bytes that a file with a private key has at most.
const KEY_MAX_BYTES: usize = 65_536;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not one to be used.
    #[error("can't use a file of TLS")]
    File(#[from] FileError),
    /// A file is no PEM of what it should hold.
    #[error("{} does not hold {what} in PEM", path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: pem::Error,
    },
    /// A file holds no private key.
    #[error("{} does not hold a usable private key", path.display())]
    Key {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyFormatError,
    },
    /// The agent's certificate and those above it are more than callers take.
    #[error("{} holds more than {CHAIN_MAX_BYTES} bytes of certificates, which callers would not take", path.display())]
    LongChain {
        /// The file.
        path: PathBuf,
    },
    /// A certificate of an authority can't be used.
    #[error("{} holds a certificate that is no authority's", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// Callers' certificates can't be judged.
    #[error("can't judge callers' certificates")]
    Verifier(#[source] VerifierBuilderError),
    /// Certificate and key can't be used, or not together.
    #[error("can't use the certificate {} with the key {}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
}

/// Certificate, key, and whose certificates callers may show: as the files were when this was made.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    timeout: Duration,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls([redacted])")
    }
}

/// Why there is no connection after all.
#[derive(Debug)]
pub enum Refused {
    /// The handshake took too long.
    Late,
    /// The peer has gone in the middle of it.
    Gone,
    /// It failed, and this says why.
    Failed(String),
}

impl Tls {
    /// What `config` names; none where it names nothing.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else { return Ok(None) };
        let chain = certificates(certificate)?;
        if chain.iter().map(|one| one.len()).sum::<usize>() > CHAIN_MAX_BYTES {
            return Err(TlsError::LongChain { path: certificate.clone() });
        }
        let identity = identity(certificate, chain, key)?;
        let provider = Arc::new(default_provider());
        let versions: &[_] = match config.min_version {
            TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V13 => &[&version::TLS13],
        };
        let in_pair = |source| TlsError::Pair { certificate: certificate.clone(), key: key.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.map_err(in_pair)?;
        let builder = match (&config.client_ca, config.client_auth) {
            (Some(authorities), ClientAuth::Optional | ClientAuth::Required) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), provider);
                let verifier = match config.client_auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional | ClientAuth::Off => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::Verifier)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(identity);
        // The only one that is spoken here. A caller who offers others only is told so in the handshake.
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let timeout = Duration::from_millis(config.handshake_timeout_ms);
        Ok(Some(Self { acceptor: Arc::new(server).into(), timeout }))
    }

    /// The longest that a handshake may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Shakes hands until `deadline`.
    pub async fn accept<S>(&self, stream: S, deadline: Instant) -> Result<TlsStream<S>, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match timeout_at(deadline, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => Refused::Failed(error.to_string()),
                None => Refused::Gone,
            }),
            Err(_) => Err(Refused::Late),
        }
    }
}

/// The certificate that the caller has shown, and that was found good.
pub fn shown<S>(stream: &TlsStream<S>) -> Option<ClientCertificate> {
    let (_, connection) = stream.get_ref();
    Some(certificate::read(connection.peer_certificates()?.first()?))
}

/// Certificates to show, and the private key to the first of them, in a file of PEM that nobody else can read.
///
/// What is read of the key is wiped when this returns; rustls's own way of giving it one is to give it away, and it wipes nothing. Of a
/// key in the form `EC PRIVATE KEY` rustls makes a copy in the newer form, which stays.
pub(crate) fn identity(
    certificate: &Path,
    chain: Vec<CertificateDer<'static>>,
    key: &Path,
) -> Result<Arc<SingleCertAndKey>, TlsError> {
    let in_pair = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let file = GuardedFile::open(key)?;
    file.check_secret()?;
    let text = file.read(KEY_MAX_BYTES)?;
    let (label, der) = private_block(&text).map_err(|source| TlsError::Key { path: key.to_owned(), source })?;
    let der = der.as_slice();
    let private = match label {
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    };
    let pair = CertifiedKey::new(chain, any_supported_type(&private).map_err(in_pair)?);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(in_pair(error)),
    }
    Ok(Arc::new(pair.into()))
}

/// The certificates in a file of PEM that nobody else can change: one at least.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    // Whoever can change it decides whom callers trust, or who may call.
    let file = GuardedFile::open(path)?;
    file.check_public()?;
    let text = file.read(CERTIFICATES_MAX_BYTES)?;
    let no_pem = |source| TlsError::Pem { path: path.to_owned(), what: "a certificate", source };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(no_pem)?;
    if found.is_empty() { Err(no_pem(pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// Those as authorities.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}
