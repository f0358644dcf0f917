//! Authorities, certificates, and a client that speaks TLS.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use time::OffsetDateTime;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, version};

use super::Node;

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub(crate) certificate: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for a caller of that common name, or for an agent on the loopback.
    pub(crate) fn issue(&self, common_name: &str) -> Pair {
        self.issued(common_name, None)
    }

    /// The same, good until this second from 1970.
    pub(crate) fn issue_until(&self, common_name: &str, until_s: i64) -> Pair {
        self.issued(common_name, Some(until_s))
    }

    fn issued(&self, common_name: &str, until_s: Option<i64>) -> Pair {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(until_s) = until_s {
            params.not_after = OffsetDateTime::from_unix_timestamp(until_s).unwrap();
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

impl Pair {
    /// A node whose agent shows this certificate; `more` stands in `[tls]`, or behind it.
    pub(crate) fn node(&self, client: TlsClient, more: &str) -> Node {
        let node = Node::new("").over_tls(client);
        self.write(node.folder());
        let at = node.folder().display();
        let config = format!("[tls]\ncertificate = \"{at}/crt\"\nkey = \"{at}/key\"\n{more}\n");
        fs::write(node.folder().join("nodeaudit.toml"), config).unwrap();
        node
    }

    /// Puts both into a folder, as `crt` and `key`.
    pub(crate) fn write(&self, folder: &Path) {
        fs::write(folder.join("crt"), &self.certificate).unwrap();
        fs::write(folder.join("key"), &self.key).unwrap();
        fs::set_permissions(folder.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Whom a caller trusts, and the certificate that he shows.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    pub(crate) fn new(trusted: &str, own: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        Self(Arc::new(config))
    }

    /// TLS over a connection to the loopback; the handshake is done with the first bytes.
    pub(super) fn over(&self, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(&self.0), name).unwrap(), stream)
    }
}
