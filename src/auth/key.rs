//! The secret that signs and verifies tokens, and the file it lives in.
//!
//! Owns what makes a key file acceptable and how one is made. The secret leaves only as keys for `jsonwebtoken`, inside
//! `auth`; nothing prints it.

use std::fmt::{self, Write as _};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jsonwebtoken::{DecodingKey, EncodingKey};
use ring::rand::{SecureRandom, SystemRandom};

/// A shared secret for HS256.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
}

impl SigningKey {
    /// Bytes that a secret has at least: as many as SHA-256 gives (RFC 7518, section 3.2).
    pub const MIN_BYTES: usize = 32;
    /// Bytes that a key file has at most; more is surely another file.
    pub const MAX_FILE_BYTES: usize = 4096;

    /// The key with this secret.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < Self::MIN_BYTES {
            return Err(KeyError::TooShort { bytes: secret.len() });
        }
        Ok(Self { signing: EncodingKey::from_secret(secret), verifying: DecodingKey::from_secret(secret) })
    }

    /// The key in the file at `path`: its contents without trailing line ends, as they are.
    ///
    /// The file is a regular one that neither group nor others can access. A link to such a file will do.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let secret = read_private(path)?;
        let end = secret.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        Self::from_secret(&secret[..end]).map_err(|error| error.in_file(path))
    }

    /// A random key in a new file at `path` (mode 0600); its folder is made (mode 0700) where it is missing.
    ///
    /// The file appears whole or not at all, and never in the place of another one.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        // In hexadecimal, so that the file can be read and copied as text.
        let secret = random_text::<{ Self::MIN_BYTES }>()?;
        write_private(path, secret.as_bytes()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::Create { path: path.to_owned(), source },
        })?;
        Self::from_secret(secret.as_bytes())
    }

    /// The key at `path`, made where there is none: for the key of the state folder at the first start.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Missing { .. }) => {}
            loaded => return loaded,
        }
        match Self::create(path) {
            // Another process was faster: both use its key.
            Err(KeyError::Exists { .. }) => Self::load(path),
            created => created,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error("there is no key file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be opened or read.
    #[error("can't read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("the key file {} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner can access the file.
    #[error("the key file {} is open to group or others (mode {mode:04o}, must be 0600 or 0400)", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file, by its size.
    #[error("the key file {} is larger than {} bytes", path.display(), SigningKey::MAX_FILE_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The secret in a file is too short.
    #[error("the key file {} does not hold a usable key", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<KeyError>,
    },
    /// The secret is too short to be safe.
    #[error("the secret has {bytes} bytes, must have at least {}", SigningKey::MIN_BYTES)]
    TooShort {
        /// How many it has.
        bytes: usize,
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
    #[error("the system gives no random bytes")]
    Random,
}

impl KeyError {
    fn in_file(self, path: &Path) -> Self {
        Self::Unusable { path: path.to_owned(), source: Box::new(self) }
    }
}

/// `N` random bytes from the kernel.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// `N` random bytes in hexadecimal.
fn random_text<const N: usize>() -> Result<String, KeyError> {
    let mut text = String::with_capacity(2 * N);
    for byte in random_bytes::<N>()? {
        write!(text, "{byte:02x}").expect("writing to a String can't fail");
    }
    Ok(text)
}

/// The contents of a file, once the file that was opened has been found private.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
        _ => KeyError::Read { path: path.to_owned(), source },
    };
    // Non-blocking, because opening a pipe would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyError::NotRegular { path: path.to_owned() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut contents = Vec::new();
    let limit = SigningKey::MAX_FILE_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut contents).map_err(failed)?;
    if contents.len() > SigningKey::MAX_FILE_BYTES {
        return Err(KeyError::TooLarge { path: path.to_owned() });
    }
    Ok(contents)
}

/// Makes a new private file at `path`; its folder is made (mode 0700) where it is missing.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    // A name of its own: one left by a crash, even of the same process ID, must not be in the way.
    let random = random_text::<8>().map_err(io::Error::other)?;
    write_new(path, &path.with_extension(format!("{random}.tmp")), contents)
}

/// Writes a new file of mode 0600 that survives a power cut once this returns.
///
/// ```text
/// t0  temporary file, exclusive, 0600     a crash leaves only a name that nobody reads
/// t1  contents, fsync                     the same
/// t2  hard link to the final name         fails where that exists; rename would replace it
/// t3  unlink the temporary name, fsync of the folder
/// ```
fn write_new(path: &Path, temporary: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    let linked = file
        .write_all(contents)
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(temporary, path));
    let removed = fs::remove_file(temporary);
    linked.and(removed)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file(folder: &tempfile::TempDir, contents: &str, mode: u32) -> PathBuf {
        let path = folder.path().join("token.key");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_line_end_is_no_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secret = "a space and\ttab are part of it \t";
        for end in ["", "\n", "\r\n", "\n\n"] {
            let key = SigningKey::load(&key_file(&folder, &format!("{secret}{end}"), 0o600)).unwrap();
            assert_eq!(key.signing.as_bytes(), secret.as_bytes());
        }
    }

    #[test]
    fn a_secret_under_32_bytes_is_refused_and_the_message_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = key_file(&folder, &format!("{}\n", "x".repeat(31)), 0o600);
        let Err(KeyError::Unusable { source, .. }) = SigningKey::load(&path) else { panic!("accepted") };
        assert_eq!(source.to_string(), "the secret has 31 bytes, must have at least 32");
    }

    #[test]
    fn a_file_open_to_group_or_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o666, 0o777] {
            let loaded = SigningKey::load(&key_file(&folder, &"x".repeat(64), mode));
            assert!(matches!(loaded, Err(KeyError::Exposed { mode: told, .. }) if told == mode));
        }
        for mode in [0o600, 0o400, 0o700] {
            SigningKey::load(&key_file(&folder, &"x".repeat(64), mode)).unwrap();
        }
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [folder.path(), pipe.as_path(), Path::new("/dev/null")] {
            assert!(matches!(SigningKey::load(path), Err(KeyError::NotRegular { .. })));
        }
    }

    #[test]
    fn a_file_too_large_for_a_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = key_file(&folder, &"x".repeat(SigningKey::MAX_FILE_BYTES + 1), 0o600);
        assert!(matches!(SigningKey::load(&path), Err(KeyError::TooLarge { .. })));
    }

    #[test]
    fn a_missing_file_is_told_from_one_that_can_not_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let missing = SigningKey::load(&folder.path().join("token.key"));
        assert!(matches!(missing, Err(KeyError::Missing { .. })));
        let below_a_file = key_file(&folder, "", 0o600).join("token.key");
        assert!(matches!(SigningKey::load(&below_a_file), Err(KeyError::Read { .. })));
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
    fn an_exposed_key_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = key_file(&folder, &"x".repeat(64), 0o644);
        assert!(matches!(SigningKey::load_or_create(&path), Err(KeyError::Exposed { .. })));
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let key = SigningKey::from_secret(&[b'x'; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey([redacted])");
    }
}
