//! Files of the node: read whole up to a limit, or replaced so that a power cut leaves the old or the new one.
//!
//! Everything here blocks. Files of procfs may be read on a worker; what touches storage goes through `Storage`.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::HostError;

/// No file that is read here is larger on a healthy node; a longer one is refused.
const READ_LIMIT_BYTES: u64 = 1 << 20;

/// The text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, HostError> {
    read_limited(path).map_err(|source| HostError::read(path, source))
}

/// The text of a file, none where there is no such file.
pub(super) fn read_text_if_any(path: &Path) -> Result<Option<String>, HostError> {
    match read_limited(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError::read(path, source)),
    }
}

/// The text of a file of one line, without white space around it.
pub(super) fn read_word(path: &Path) -> Result<String, HostError> {
    Ok(read_text(path)?.trim().to_owned())
}

/// The error of a file that does not have the form its manual gives.
pub(super) fn malformed(path: &Path, reason: &str) -> HostError {
    HostError::read(path, io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// Replaces a file's content. After a power cut the old or the new content is there, never a mixture.
///
/// ```text
/// t0  the new content is in a temporary file beside it       cut: old
/// t1  the temporary file is on stable storage                cut: old
/// t2  renamed over the file                                  cut: old or new
/// t3  the folder is on stable storage                        cut: new
/// ```
pub(super) fn replace_text(path: &Path, text: &str) -> Result<(), HostError> {
    replace(path, |temporary| {
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(temporary)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
}

/// Replaces whatever is at `path` by a symbolic link to `target`, as [`replace_text`] does.
pub(super) fn replace_link(path: &Path, target: &Path) -> Result<(), HostError> {
    replace(path, |temporary| symlink(target, temporary))
}

/// Removes a file, and makes that last.
pub(super) fn remove(path: &Path) -> Result<(), HostError> {
    fs::remove_file(path).and_then(|()| sync_folder_of(path)).map_err(|source| HostError::write(path, source))
}

fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), HostError> {
    let temporary = temporary_beside(path);
    // One that a power cut left behind.
    let _ = fs::remove_file(&temporary);
    make(&temporary)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
        .and_then(|()| sync_folder_of(path))
        .map_err(|source| HostError::write(path, source))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".nodeaudit-new");
    path.with_file_name(name)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn read_limited(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(READ_LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > READ_LIMIT_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::Tree;

    #[test]
    fn a_replaced_file_has_the_new_content_and_leaves_nothing_beside_it() {
        let tree = Tree::new().with("etc/hostname", "old\n");
        let file = tree.paths().etc("hostname");
        replace_text(&file, "new\n").unwrap();
        assert_eq!(read_text(&file).unwrap(), "new\n");
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn what_a_power_cut_left_behind_does_not_stop_the_next_change() {
        let tree = Tree::new().with("etc/.hostname.nodeaudit-new", "half");
        let file = tree.paths().etc("hostname");
        replace_text(&file, "new\n").unwrap();
        assert_eq!(read_text(&file).unwrap(), "new\n");
    }

    #[test]
    fn a_link_replaces_a_file() {
        let tree = Tree::new().with("etc/localtime", "TZif2");
        let file = tree.paths().etc("localtime");
        replace_link(&file, Path::new("/usr/share/zoneinfo/Europe/Berlin")).unwrap();
        assert_eq!(fs::read_link(&file).unwrap(), Path::new("/usr/share/zoneinfo/Europe/Berlin"));
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let tree = Tree::new().with("etc/resolv.conf", &"#".repeat((1 << 20) + 1));
        let refused = read_text(&tree.paths().etc("resolv.conf")).unwrap_err();
        assert!(matches!(refused, HostError::Read { .. }));
    }
}
