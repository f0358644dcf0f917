//! Tokens that are called back before they expire, by their IDs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::guarded_file::{FileError, GuardedFile};

/// Bytes that the file has at most: some 25,000 UUIDs.
const FILE_MAX_BYTES: usize = 1 << 20;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// The file is not one to be used.
    #[error("can't use the list of revoked tokens")]
    File(#[from] FileError),
    /// The file is not a list of IDs.
    #[error("{}:{line}: not the ID of a token, 1 to 128 printable bytes", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 where the file is not UTF-8.
        line: usize,
    },
}

/// IDs of tokens that are not accepted any more.
#[derive(Debug, Default)]
pub struct RevokedTokens(HashSet<String>);

impl FromIterator<String> for RevokedTokens {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl RevokedTokens {
    /// The list in a file: an ID (`jti`) a line; empty lines, and those that begin with `#`, are for people.
    pub fn load(path: &Path) -> Result<Self, RevokedError> {
        let file = GuardedFile::open(path)?;
        file.check_public()?;
        let text = file.read(FILE_MAX_BYTES)?;
        let wrong = |line| RevokedError::Line { path: path.to_owned(), line };
        let text = std::str::from_utf8(&text).map_err(|_| wrong(0))?;
        let lines = (1..).zip(text.lines().map(str::trim));
        let ids = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(number, line)| {
            let is_id = line.len() <= super::claims::MAX_TOKEN_ID_BYTES && !line.chars().any(char::is_control);
            is_id.then(|| line.to_owned()).ok_or_else(|| wrong(number))
        });
        Ok(Self(ids.collect::<Result<_, _>>()?))
    }

    /// Whether the token with this ID is called back.
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn load(text: &[u8], mode: u32) -> Result<RevokedTokens, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        RevokedTokens::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn each_line_is_an_id_but_comments_and_empty_ones() {
        let revoked = load(b"# lost laptop\r\n a-1 \r\n\nb 2\n", 0o644).unwrap();
        assert!(revoked.contains("a-1") && revoked.contains("b 2"));
        assert!(!revoked.contains("") && !revoked.contains("# lost laptop"));
    }

    #[test]
    fn a_list_with_a_line_that_is_none_is_refused_whole() {
        assert!(load(format!("a\n{}\n", "x".repeat(129)).as_bytes(), 0o644).unwrap_err().contains("revoked:2: "));
        assert!(load(b"a\nb\x07\n", 0o644).unwrap_err().contains("revoked:2: "));
        assert!(load(b"\xff", 0o644).is_err() && load(b"a\n", 0o666).is_err());
    }
}
