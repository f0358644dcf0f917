//! Someone who issues tokens to a fleet: keys that openssl made, of which nodes have the public halves only.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use nodeaudit::auth::{Grant, SigningKey, TokenIssuer};
use tempfile::TempDir;

use super::{Node, skipped};

/// The fleet, as tokens name it.
pub(crate) const AUDIENCE: &str = "fleet.test";

/// Who issues, as tokens name him.
pub(crate) const ISSUER: &str = "https://issuer.test";

/// The names of the keys, each with its algorithm and how openssl makes it.
pub(crate) const KIDS: [(&str, Algorithm, &[&str]); 3] = [
    ("ed", Algorithm::EdDSA, &["-algorithm", "ed25519"]),
    ("ec", Algorithm::ES256, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("rsa", Algorithm::RS256, &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
];

const OPENSSL: &str = "/usr/bin/openssl";

/// The issuer's folder: `private/KID.key`, and `public/KID.pem` for the nodes.
pub(crate) struct Issuer(TempDir);

impl Issuer {
    /// One with a key for each algorithm. None where openssl is missing; it says so loudly.
    pub(crate) fn new() -> Option<Self> {
        if !Path::new(OPENSSL).exists() {
            skipped("this test needs openssl");
            return None;
        }
        let issuer = Self(tempfile::tempdir().unwrap());
        for folder in [issuer.private_keys(), issuer.public_keys()] {
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        }
        for (kid, _, options) in KIDS {
            issuer.make(kid, options);
        }
        // An issuer gives this process its cryptography, which a test that runs alone has not got yet.
        drop(TokenIssuer::new(&issuer.key("ed")));
        Some(issuer)
    }

    /// Makes a pair of keys, of which the public one goes to the nodes.
    pub(crate) fn make(&self, kid: &str, options: &[&str]) {
        let (private, public) = (self.private_key(kid), self.public_keys().join(format!("{kid}.pem")));
        openssl(Command::new(OPENSSL).arg("genpkey").args(options).arg("-out").arg(&private));
        openssl(Command::new(OPENSSL).args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public));
        fs::set_permissions(public, Permissions::from_mode(0o644)).unwrap();
    }

    /// The folder of all.
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The folder with the public keys.
    pub(crate) fn public_keys(&self) -> PathBuf {
        self.folder().join("public")
    }

    fn private_keys(&self) -> PathBuf {
        self.folder().join("private")
    }

    /// The file with a private key, in PEM.
    pub(crate) fn private_key(&self, kid: &str) -> PathBuf {
        self.private_keys().join(format!("{kid}.key"))
    }

    /// A private key.
    pub(crate) fn key(&self, kid: &str) -> SigningKey {
        SigningKey::load(&self.private_key(kid)).unwrap()
    }

    /// A node that accepts what this issuer signs, has no secret, and is configured with `more`, which begins in the table `auth`.
    pub(crate) fn node(&self, more: &str) -> Node {
        let mut config = format!("[auth]\nkeys = [\"{}\"]\n", self.public_keys().display());
        writeln!(config, "audiences = [{AUDIENCE:?}]\nissuers = [{ISSUER:?}]\n{more}").unwrap();
        Node::new(&config).signing(self.key("ed"), Self::grant())
    }

    /// What every token says.
    pub(crate) fn grant() -> Grant {
        Grant { issuer: Some(ISSUER.to_owned()), audience: Some(AUDIENCE.to_owned()), ..Grant::default() }
    }

    /// A token with this header and these claims, whatever they are, signed with this key by this algorithm.
    pub(crate) fn sign(&self, kid: &str, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let der = Command::new(OPENSSL)
            .args(["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in"])
            .arg(self.private_key(kid))
            .output()
            .unwrap()
            .stdout;
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
            Algorithm::ES256 => EncodingKey::from_ec_der(&der),
            _ => EncodingKey::from_rsa_der(&der),
        };
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

fn openssl(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
}
