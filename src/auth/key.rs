//! Keys that sign and verify tokens, each for one algorithm only.
//!
//! Owns which keys are good enough, and how one is made. A key leaves only for `jsonwebtoken`, inside `auth`; nothing prints it, and
//! the memory of a secret is wiped when it is given back.

use std::fmt;
use std::io;
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};

use super::guarded_file::{FileError, GuardedFile, create_private};
use super::key_error::{KeyError, KeyFormatError};
use super::random::{RandomError, random_text};
use super::{crypto, form, key_der, pem, weak_key};

/// What a key can be for (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    Hs256,
    /// Ed25519.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// RSA, PKCS #1 version 1.5, with SHA-256 and 2048 to 8192 bits.
    Rs256,
}

impl KeyAlgorithm {
    /// The algorithm as `jsonwebtoken` names it.
    pub(super) const fn registered(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
        }
    }

    /// Whether a JSON Web Key with this `alg` is for this algorithm. `Ed25519` is EdDSA's newer name (RFC 9864).
    pub(super) fn is_named(self, name: &str) -> bool {
        match self {
            Self::Hs256 => name == "HS256",
            Self::EdDsa => name == "EdDSA" || name == "Ed25519",
            Self::Es256 => name == "ES256",
            Self::Rs256 => name == "RS256",
        }
    }
}

/// A key that verifies: public, or a shared secret.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<String>,
    algorithm: KeyAlgorithm,
    pub(super) key: DecodingKey,
}

impl VerifyingKey {
    fn new(algorithm: KeyAlgorithm, key: DecodingKey) -> Self {
        crypto::install();
        Self { kid: None, algorithm, key }
    }

    /// A shared secret of at least 32 bytes.
    pub(super) fn shared(secret: &[u8]) -> Result<Self, KeyFormatError> {
        if secret.len() < SigningKey::MIN_BYTES {
            return Err(KeyFormatError::TooShort { bytes: secret.len() });
        }
        Ok(Self::new(KeyAlgorithm::Hs256, DecodingKey::from_secret(secret)))
    }

    /// A public key of Ed25519: 32 bytes. Whether they are a point of the curve, `ring` looks at with each signature.
    pub(super) fn ed25519(key: &[u8]) -> Result<Self, KeyFormatError> {
        if weak_key::is_weak(key.try_into().map_err(|_| KeyFormatError::Length)?) {
            return Err(KeyFormatError::Weak);
        }
        Ok(Self::new(KeyAlgorithm::EdDsa, DecodingKey::from_ed_der(key)))
    }

    /// An uncompressed point of P-256: 65 bytes. Whether it is on the curve, `ring` looks at with each signature.
    pub(super) fn p256(point: &[u8]) -> Result<Self, KeyFormatError> {
        if point.len() != 65 || point[0] != 4 {
            return Err(KeyFormatError::Length);
        }
        Ok(Self::new(KeyAlgorithm::Es256, DecodingKey::from_ec_der(point)))
    }

    /// Modulus and exponent, big-endian.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFormatError> {
        let significant = |bytes: &'_ [u8]| bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
        let (modulus, exponent) = (&modulus[significant(modulus)..], &exponent[significant(exponent)..]);
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(KeyFormatError::WeakRsa { bits });
        }
        if modulus.last().is_some_and(|last| last & 1 == 0) {
            return Err(KeyFormatError::EvenModulus);
        }
        // What `ring` takes: odd, from 3 to 33 bits.
        let is_odd = exponent.last().is_some_and(|last| last & 1 == 1);
        if !is_odd || exponent == [1] || exponent.len() > 4 {
            return Err(KeyFormatError::Exponent);
        }
        Ok(Self::new(KeyAlgorithm::Rs256, DecodingKey::from_rsa_raw_components(modulus, exponent)))
    }

    /// The public key in PEM (`openssl pkey -pubout`).
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, KeyFormatError> {
        let (label, bytes) = pem::one_block(text)?;
        if label.ends_with("PRIVATE KEY") {
            return Err(KeyFormatError::Private);
        }
        if label != "PUBLIC KEY" {
            return Err(KeyFormatError::Label);
        }
        let (algorithm, key) = key_der::public_key(&bytes)?;
        match algorithm {
            KeyAlgorithm::EdDsa => Self::ed25519(key),
            KeyAlgorithm::Es256 => Self::p256(key),
            KeyAlgorithm::Rs256 => {
                key_der::rsa_components(key).and_then(|(modulus, exponent)| Self::rsa(modulus, exponent))
            }
            KeyAlgorithm::Hs256 => Err(KeyFormatError::Algorithm),
        }
    }

    /// The same key under this name.
    #[must_use]
    pub(super) fn named(self, kid: Option<String>) -> Self {
        Self { kid, ..self }
    }

    /// What a token calls this key.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that it is for.
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?}, {:?}, [redacted])", self.kid, self.algorithm)
    }
}

/// A key that signs: private, or a shared secret. It verifies, too.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) signing: EncodingKey,
    pub(super) verifying: VerifyingKey,
}

impl SigningKey {
    /// Bytes that a shared secret has at least: as many as SHA-256 gives (RFC 7518, section 3.2).
    pub const MIN_BYTES: usize = 32;
    /// Bytes that a key file has at most; more is surely another file.
    pub const MAX_FILE_BYTES: usize = 65_536;

    /// The key with this shared secret.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyFormatError> {
        let verifying = VerifyingKey::shared(secret)?;
        Ok(Self { signing: EncodingKey::from_secret(secret), verifying })
    }

    /// The key whose shared secret is the contents of a file.
    fn from_text(contents: &[u8]) -> Result<Self, KeyFormatError> {
        if let Some(what) = form::no_secret(contents) {
            return Err(KeyFormatError::NoSecret { what });
        }
        let end = contents.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        Self::from_secret(&contents[..end])
    }

    /// The private key in PEM (`openssl genpkey`: PKCS #8, RFC 5958).
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyFormatError> {
        let (label, bytes) = pem::one_block(text)?;
        match label {
            "PRIVATE KEY" => Self::from_pkcs8(&bytes),
            "ENCRYPTED PRIVATE KEY" => Err(KeyFormatError::Encrypted),
            "PUBLIC KEY" => Err(KeyFormatError::Public),
            _ => Err(KeyFormatError::Label),
        }
    }

    /// The private key in this `PrivateKeyInfo`.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyFormatError> {
        let unusable = |_| KeyFormatError::Der;
        let (signing, verifying) = match key_der::private_key_algorithm(bytes)? {
            KeyAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map_err(unusable)?;
                (EncodingKey::from_ed_der(bytes), VerifyingKey::ed25519(pair.public_key().as_ref())?)
            }
            KeyAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(crypto::ES256_SIGNING, bytes, &SystemRandom::new());
                let pair = pair.map_err(unusable)?;
                (EncodingKey::from_ec_der(bytes), VerifyingKey::p256(pair.public_key().as_ref())?)
            }
            KeyAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(bytes).map_err(unusable)?;
                let (modulus, exponent) = key_der::rsa_components(pair.public_key().as_ref())?;
                (EncodingKey::from_rsa_der(bytes), VerifyingKey::rsa(modulus, exponent)?)
            }
            KeyAlgorithm::Hs256 => return Err(KeyFormatError::Algorithm),
        };
        let signs = crypto::signs(verifying.algorithm().registered(), &signing);
        if signs { Ok(Self { signing, verifying }) } else { Err(KeyFormatError::Der) }
    }

    /// A new private key of Ed25519, for the self-test.
    pub(super) fn random_ed25519() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| RandomError)?;
        Ok(Self::from_pkcs8(document.as_ref()).expect("ring reads what it writes"))
    }

    /// The key in the file at `path`: a private key in PEM, or else a shared secret, which is the file's contents without trailing
    /// line ends, where they are not plainly something else. Its `kid` is the file's name without what follows the last dot.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = GuardedFile::open(path)?;
        file.check_secret()?;
        let contents = file.read(Self::MAX_FILE_BYTES)?;
        let key = if pem::is_pem(&contents) { Self::from_pem(&contents) } else { Self::from_text(&contents) };
        Ok(key.map_err(|error| error.in_file(path))?.named(kid_of(path)))
    }

    /// A random shared secret in a new file at `path` (mode 0600); its folder is made (mode 0700) where it is missing.
    ///
    /// The file appears whole or not at all, and never in the place of another one.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        // In hexadecimal, so that the file can be read and copied as text.
        let secret = random_text::<{ Self::MIN_BYTES }>()?;
        create_private(path, secret.as_bytes()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::Create { path: path.to_owned(), source },
        })?;
        let key = Self::from_secret(secret.as_bytes()).map_err(|error| error.in_file(path))?;
        Ok(key.named(kid_of(path)))
    }

    /// The key at `path`, made where there is none: for the key of the state folder at the first start.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File(FileError::Missing { .. })) => {}
            loaded => return loaded,
        }
        match Self::create(path) {
            // Another process was faster: both use its key.
            Err(KeyError::Exists { .. }) => Self::load(path),
            created => created,
        }
    }

    /// The same key under this name.
    #[must_use]
    pub fn named(self, kid: Option<String>) -> Self {
        Self { verifying: self.verifying.named(kid), ..self }
    }

    /// The key that verifies what this one signs.
    pub const fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

/// The name of the key in a file.
pub(super) fn kid_of(path: &Path) -> Option<String> {
    path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn key_file(folder: &tempfile::TempDir, contents: &str, mode: u32) -> PathBuf {
        let path = folder.path().join("token.key");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_private_key_that_does_not_sign_is_refused_when_it_is_read() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/key");
        let read = |name: &str| SigningKey::from_pkcs8(&fs::read(format!("{seeds}/{name}")).unwrap()).map(drop);
        assert!(read("rsa_der").is_ok());
        assert!(matches!(read("rsa_that_does_not_sign"), Err(KeyFormatError::Der)));
    }

    #[test]
    fn the_line_end_is_no_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secret = "a space and\ttab are part of it \t";
        for end in ["", "\n", "\r\n", "\n\n"] {
            let key = SigningKey::load(&key_file(&folder, &format!("{secret}{end}"), 0o600)).unwrap();
            assert_eq!(key.signing.as_bytes(), secret.as_bytes());
            assert_eq!(key.verifying.kid(), Some("token"));
        }
    }

    #[test]
    fn a_file_that_is_plainly_something_else_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        for (text, what) in [
            ("\u{feff}0123456789012345678901234567890123456789", "byte order mark"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz4IMJ5 ada@example.com\n", "a key of SSH"),
            (r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}"#, "JSON"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nYWJj\n-----END OPENSSH PRIVATE KEY-----\n",
                "neither a PUBLIC KEY nor",
            ),
            ("-----BEGIN PUBLIC KEY-----\nYWJj\n-----END PUBLIC KEY-----\n", "a public key, which signs nothing"),
        ] {
            let refused = SigningKey::load(&key_file(&folder, text, 0o600));
            let Err(KeyError::Unusable { source, .. }) = refused else { panic!("{text} is accepted") };
            assert!(source.to_string().contains(what), "{text}: {source}");
        }
    }

    #[test]
    fn a_key_with_which_anybody_signs_is_refused_when_it_is_read() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(matches!(VerifyingKey::ed25519(&neutral), Err(KeyFormatError::Weak)));
        assert!(matches!(VerifyingKey::ed25519(&neutral[1..]), Err(KeyFormatError::Length)));
    }

    #[test]
    fn a_secret_under_32_bytes_is_refused_and_the_message_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = key_file(&folder, &format!("{}\n", "x".repeat(31)), 0o600);
        let Err(KeyError::Unusable { source, .. }) = SigningKey::load(&path) else { panic!("accepted") };
        assert_eq!(source.to_string(), "the secret has 31 bytes, must have at least 32");
        let empty = SigningKey::load(&key_file(&folder, "\n", 0o600));
        assert!(matches!(empty, Err(KeyError::Unusable { source: KeyFormatError::TooShort { bytes: 0 }, .. })));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = key_file(&folder, &"x".repeat(64), 0o644);
        let refused = |key| matches!(key, Err(KeyError::File(FileError::Exposed { mode: 0o644, .. })));
        assert!(refused(SigningKey::load(&path)) && refused(SigningKey::load_or_create(&path)));
    }

    #[test]
    fn a_created_key_is_private_loads_again_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let path = state.join("token.key");
        let created = SigningKey::create(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&path)), (0o700, 0o600));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        let loaded = SigningKey::load(&path).unwrap();
        assert_eq!(loaded.signing.as_bytes(), created.signing.as_bytes());
        assert_eq!(loaded.signing.as_bytes().len(), 64);
    }

    #[test]
    fn a_key_is_created_once_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.key");
        let first = SigningKey::load_or_create(&path).unwrap();
        assert!(matches!(SigningKey::create(&path), Err(KeyError::Exists { .. })));
        let second = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(first.signing.as_bytes(), second.signing.as_bytes());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn rsa_has_2048_bits_at_least_and_a_sane_exponent() {
        let rsa = |bytes: usize, first: u8, exponent: &[u8]| {
            VerifyingKey::rsa(&[&[first], vec![0xff; bytes - 1].as_slice()].concat(), exponent)
                .map(|key| key.algorithm())
        };
        assert_eq!(rsa(256, 0x80, &[1, 0, 1]), Ok(KeyAlgorithm::Rs256));
        assert_eq!(rsa(256, 0x7f, &[1, 0, 1]), Err(KeyFormatError::WeakRsa { bits: 2047 }));
        assert_eq!(rsa(257, 0, &[1, 0, 1]), Ok(KeyAlgorithm::Rs256), "zeros before it do not count");
        assert_eq!(rsa(1025, 1, &[1, 0, 1]), Err(KeyFormatError::WeakRsa { bits: 8193 }));
        let even = VerifyingKey::rsa(&[vec![0xff; 255].as_slice(), &[0xfe]].concat(), &[1, 0, 1]);
        assert!(matches!(even, Err(KeyFormatError::EvenModulus)));
        for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert_eq!(rsa(256, 0x80, exponent), Err(KeyFormatError::Exponent), "{exponent:?}");
        }
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let key = SigningKey::from_secret(&[b'x'; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey([redacted])");
        assert!(!format!("{:?}", key.verifying).contains("120"));
    }
}
