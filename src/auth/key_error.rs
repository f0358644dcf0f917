//! Why there is no key, in words for who has to mend it.

use std::io;
use std::path::{Path, PathBuf};

use jsonwebtoken::Algorithm;

use super::guarded_file::FileError;
use super::key::SigningKey;
use super::random::RandomError;

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    /// A shared secret is too short to be safe.
    #[error("the secret has {bytes} bytes, must have at least {}", SigningKey::MIN_BYTES)]
    TooShort {
        /// How many it has.
        bytes: usize,
    },
    /// There is something else where a shared secret is meant.
    #[error("it is {what}, and no shared secret: openssl rand -hex 32 makes one")]
    NoSecret {
        /// What it is.
        what: &'static str,
    },
    /// The text is no PEM.
    #[error("it is not PEM as openssl writes it")]
    Pem,
    /// There is more than one key.
    #[error("it holds more than one key; each needs a file of its own")]
    Several,
    /// PEM of something else.
    #[error(
        "it holds neither a PUBLIC KEY nor, for signing, a PRIVATE KEY: openssl pkey -pubout writes the first, openssl pkcs8 -topk8 \
         -nocrypt the second, and openssl x509 -pubkey -noout takes the first out of a certificate"
    )]
    Label,
    /// The private key has a passphrase.
    #[error("its private key is encrypted; openssl pkey decrypts it")]
    Encrypted,
    /// There is a private key where a public one is meant.
    #[error("it holds a private key; a node needs the public one only: openssl pkey -pubout writes it")]
    Private,
    /// There is none where a private one is meant.
    #[error("it holds no private key in PEM")]
    NoPrivate,
    /// There is a public key where a private one is meant.
    #[error("it holds a public key, which signs nothing")]
    Public,
    /// The DER is not that of a key.
    #[error("it is not a well-formed key")]
    Der,
    /// The JSON is not that of keys.
    #[error("it is not a well-formed JSON Web Key or set of them")]
    Json,
    /// All keys of a set are for something else.
    #[error("none of its keys is for EdDSA with Ed25519, ES256, RS256 or HS256")]
    NoneUsable,
    /// The key is for another algorithm.
    #[error("its key is not for EdDSA with Ed25519, ES256 or RS256")]
    Algorithm,
    /// The key has not the length that its algorithm asks for.
    #[error("its key has not the length that its algorithm asks for")]
    Length,
    /// Anybody could sign.
    #[error("its Ed25519 key is a point of small order, for which anybody can make signatures")]
    Weak,
    /// The modulus is no product of two large primes.
    #[error("its RSA modulus is even")]
    EvenModulus,
    /// The modulus is too small to be safe, or too large.
    #[error("its RSA key has {bits} bits, must have 2048 to 8192")]
    WeakRsa {
        /// How many it has.
        bits: usize,
    },
    /// The public exponent is unusual.
    #[error("its RSA key has an exponent that is not odd or not between 3 and 2^32")]
    Exponent,
}

impl KeyFormatError {
    pub(super) fn in_file(self, path: &Path) -> KeyError {
        KeyError::Unusable { path: path.to_owned(), source: self }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not one to be used.
    #[error("can't use the key file")]
    File(#[from] FileError),
    /// What stands in it is no key that can be used.
    #[error("the key file {} does not hold a usable key", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyFormatError,
    },
    /// A name would not say which key is meant.
    #[error("two keys have the kid {kid:?}, the second one in {}", path.display())]
    SameKid {
        /// The name.
        kid: String,
        /// Where the second one is.
        path: PathBuf,
    },
    /// No token could say which of two keys is meant.
    #[error("with {} there are two keys for {algorithm:?}, and one of them has no kid, so that no token can say which is meant", path.display())]
    Nameless {
        /// What both are for.
        algorithm: Algorithm,
        /// Where the second one is.
        path: PathBuf,
    },
    /// There are more keys than anybody needs.
    #[error("there are more than {max} keys")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// Nobody could ever be let in.
    #[error("auth.keys names no key: {} holds no file *.pem, *.json or *.jwks", path.display())]
    NoKeys {
        /// The first of the places.
        path: PathBuf,
    },
    /// A new key would replace a file.
    #[error("the key file {} already exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be made.
    #[error("can't create the key file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
}
