//! Files on which it depends who gets in: secrets, public keys, lists of revoked tokens.
//!
//! Owns what makes such a file acceptable, and how a private one is made. Where someone else could read a secret, or write any of them,
//! the file is refused. Knows nothing of what stands in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use zeroize::Zeroizing;

use super::random::random_text;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file.
    #[error("there is no file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It can't be opened or read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Whoever owns it decides what stands in it.
    #[error("{} belongs to user {owner}, must belong to root or to the agent's user", path.display())]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// The ID of that user.
        owner: u32,
    },
    /// Others than the owner can read a secret.
    #[error("{} holds a secret and is open to group or others (mode {mode:04o}, must be 0600 or 0400)", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others than the owner can put something else into it.
    #[error("{} can be changed by group or others (mode {mode:04o}, as 0644 they can't)", path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is surely another file.
    #[error("{} is larger than {max_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max_bytes: usize,
    },
}

/// A regular file that is open, and has an owner who may decide.
pub(crate) struct GuardedFile {
    path: PathBuf,
    file: File,
    mode: u32,
    /// Bytes that it had when it was opened.
    length: u64,
}

impl GuardedFile {
    /// Opens the file at `path`. A link to such a file will do.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |source| unreadable(path, source);
        // Non-blocking, because opening a pipe would wait for its writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        // Of the file that was opened, whatever becomes of its name.
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(FileError::NotRegular { path: path.to_owned() });
        }
        check_owner(path, &metadata)?;
        Ok(Self { path: path.to_owned(), file, mode: metadata.mode() & 0o7777, length: metadata.len() })
    }

    /// Whether nobody but the owner can read or change it.
    pub(crate) fn check_secret(&self) -> Result<(), FileError> {
        // The group bits of a credential are the mask of the access list in which systemd lets the agent's user in.
        let open_to = if self.is_credential() { 0o037 } else { 0o077 };
        if self.mode & open_to == 0 {
            return Ok(());
        }
        Err(FileError::Exposed { path: self.path.clone(), mode: self.mode })
    }

    /// Whether nobody but the owner can change it.
    pub(crate) fn check_public(&self) -> Result<(), FileError> {
        check_unwritable(&self.path, self.mode)
    }

    /// What stands in it, up to `max_bytes`. The memory is wiped when it is given back.
    pub(crate) fn read(&self, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
        // All of it at once: a Vec that grows leaves copies behind. What is longer now than it was is read whole all the same.
        let room = usize::try_from(self.length).unwrap_or(usize::MAX).min(max_bytes) + 64;
        let mut contents = Zeroizing::new(Vec::with_capacity(room));
        let limit = max_bytes as u64 + 1;
        (&self.file).take(limit).read_to_end(&mut contents).map_err(|source| unreadable(&self.path, source))?;
        if contents.len() > max_bytes {
            return Err(FileError::TooLarge { path: self.path.clone(), max_bytes });
        }
        Ok(contents)
    }

    fn is_credential(&self) -> bool {
        std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| is_below(&self.path, Path::new(&folder)))
    }
}

/// Whether a path leads into that folder. Where the variable is empty or relative, there are no credentials, though every path begins with
/// an empty one.
fn is_below(path: &Path, folder: &Path) -> bool {
    let climbs = path.components().any(|component| component == Component::ParentDir);
    folder.is_absolute() && path != folder && path.starts_with(folder) && !climbs
}

/// Makes a new private file at `path`; its folder is made (mode 0700) where it is missing.
pub(crate) fn create_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    // A name of its own: one left by a crash, even of the same process ID, must not be in the way.
    let random = random_text::<8>().map_err(io::Error::other)?;
    write_new(path, &path.with_extension(format!("{}.tmp", random.as_str())), contents)
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

/// What is in a folder whose owner may decide and which nobody else can change, sorted by name, without what is hidden.
pub(super) fn entries_of(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source| unreadable(folder, source);
    let metadata = fs::metadata(folder).map_err(failed)?;
    check_owner(folder, &metadata)?;
    check_unwritable(folder, metadata.mode() & 0o7777)?;
    let entries = fs::read_dir(folder).map_err(failed)?.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let visible = entries.iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<_> = visible.map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// Root's files and one's own are taken. Root takes those in the folder of their owner, too: a command of root's works with what is
/// the agent's own.
fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    let (owner, user) = (metadata.uid(), nix::unistd::geteuid());
    let is_in_own_folder =
        || path.parent().and_then(|folder| fs::metadata(folder).ok()).is_some_and(|folder| folder.uid() == owner);
    if owner == 0 || owner == user.as_raw() || (user.is_root() && is_in_own_folder()) {
        return Ok(());
    }
    Err(FileError::Foreign { path: path.to_owned(), owner })
}

fn check_unwritable(path: &Path, mode: u32) -> Result<(), FileError> {
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(FileError::Writable { path: path.to_owned(), mode })
}

fn unreadable(path: &Path, source: io::Error) -> FileError {
    match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing { path: path.to_owned() },
        _ => FileError::Read { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    fn file(folder: &tempfile::TempDir, bytes: usize, mode: u32) -> PathBuf {
        let path = folder.path().join("file");
        fs::write(&path, "x".repeat(bytes)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_open_to_group_or_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = |mode| GuardedFile::open(&file(&folder, 1, mode)).unwrap().check_secret();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o666, 0o777] {
            assert!(matches!(check(mode), Err(FileError::Exposed { mode: told, .. }) if told == mode));
        }
        for mode in [0o600, 0o400, 0o700] {
            check(mode).unwrap();
        }
    }

    #[test]
    fn a_credential_is_what_lies_in_the_folder_of_credentials() {
        let folder = "/run/credentials/nodeaudit.service";
        let is_credential = |path: &str, folder: &str| is_below(Path::new(path), Path::new(folder));
        assert!(is_credential("/run/credentials/nodeaudit.service/token.key", folder));
        for (path, folder) in [
            ("/etc/nodeaudit/token.key", ""),
            ("token.key", ""),
            ("run/token.key", "run"),
            ("/run/credentials/nodeaudit.service2/token.key", folder),
            ("/run/credentials/nodeaudit.service/../other/token.key", folder),
            (folder, folder),
        ] {
            assert!(!is_credential(path, folder), "{path} in {folder:?}");
        }
    }

    #[test]
    fn what_others_can_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = |mode| GuardedFile::open(&file(&folder, 1, mode)).unwrap().check_public();
        for mode in [0o660, 0o646, 0o620, 0o602, 0o666] {
            assert!(matches!(check(mode), Err(FileError::Writable { .. })), "{mode:o}");
        }
        for mode in [0o600, 0o644, 0o444, 0o755] {
            check(mode).unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(entries_of(folder.path()), Err(FileError::Writable { .. })));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(entries_of(folder.path()).unwrap(), [folder.path().join("file")]);
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, 1, 0o600);
        chown(&path, Some(65_534), None).unwrap();
        assert!(matches!(GuardedFile::open(&path), Err(FileError::Foreign { owner: 65_534, .. })));
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [folder.path(), pipe.as_path(), Path::new("/dev/null")] {
            assert!(matches!(GuardedFile::open(path), Err(FileError::NotRegular { .. })));
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, 100, 0o600);
        assert_eq!(GuardedFile::open(&path).unwrap().read(100).unwrap().len(), 100);
        assert!(matches!(GuardedFile::open(&path).unwrap().read(99), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn a_missing_file_is_told_from_one_that_can_not_be_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(GuardedFile::open(&folder.path().join("none")), Err(FileError::Missing { .. })));
        let below_a_file = file(&folder, 1, 0o600).join("none");
        assert!(matches!(GuardedFile::open(&below_a_file), Err(FileError::Read { .. })));
    }
}
