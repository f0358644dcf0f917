//! Tokens that are called back before they expire, by their IDs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::claims::check_token_id;
use super::form::without_mark;
use super::guarded_file::{FileError, GuardedFile};

/// Bytes that the file has at most: some 25,000 UUIDs.
const FILE_MAX_BYTES: usize = 1 << 20;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// The file is not one to be used.
    #[error("can't use the list of revoked tokens")]
    File(#[from] FileError),
    /// The file is not text.
    #[error("{} is not UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
    },
    /// A line is neither an ID nor for people.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// IDs of tokens that are not accepted any more.
///
/// Where there is a list, be it empty, a token must have an ID: one without could not be called back.
#[derive(Debug, Default)]
pub struct RevokedTokens(Option<HashSet<String>>);

impl FromIterator<String> for RevokedTokens {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        Self(Some(ids.into_iter().collect()))
    }
}

impl RevokedTokens {
    /// The list in a file: an ID (`jti`) a line, as it is or as a string of JSON. Empty lines, and those that begin with `#`, are for
    /// people; so are blanks around an ID.
    ///
    /// What could be an ID with something else behind it is refused: taken for an ID, it would call nothing back.
    pub fn load(path: &Path) -> Result<Self, RevokedError> {
        let file = GuardedFile::open(path)?;
        file.check_public()?;
        let text = file.read(FILE_MAX_BYTES)?;
        let text =
            std::str::from_utf8(without_mark(&text)).map_err(|_| RevokedError::Encoding { path: path.to_owned() })?;
        let lines = (1..).zip(text.lines().map(str::trim_ascii));
        let ids = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let ids = ids.map(|(number, line)| {
            id_in(line).map_err(|problem| RevokedError::Line { path: path.to_owned(), line: number, problem })
        });
        ids.collect()
    }

    /// Whether there is a list.
    pub const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the token with this ID is called back.
    pub fn contains(&self, id: &str) -> bool {
        self.0.as_ref().is_some_and(|ids| ids.contains(id))
    }
}

/// The ID in a line.
fn id_in(line: &str) -> Result<String, &'static str> {
    let id = if line.starts_with('"') {
        serde_json::from_str(line).map_err(|_| "not a string of JSON and nothing else")?
    } else if line.bytes().all(is_plain) {
        line.to_owned()
    } else {
        return Err(
            "not one ID and nothing else: comments have lines of their own, and an ID with other characters than letters, \
                    digits and -._~:/+=@|$ is written as a string of JSON",
        );
    };
    check_token_id(&id).map_err(|_| "not the ID of a token, 1 to 128 bytes without control characters")?;
    Ok(id)
}

/// What stands in the IDs that issuers make: UUIDs, base64, names of things. Nothing that separates an ID from a comment.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'+' | b'=' | b'@' | b'|' | b'$')
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
        let revoked = load(b"# lost laptop\r\n a-1 \r\n\n\tb:2=\n  # another\n", 0o644).unwrap();
        assert!(revoked.contains("a-1") && revoked.contains("b:2="));
        assert!(!revoked.contains("") && !revoked.contains("# lost laptop"));
        assert!(load(b"", 0o644).unwrap().is_there() && !RevokedTokens::default().is_there());
    }

    #[test]
    fn an_id_of_any_form_can_be_called_back() {
        let revoked = load(
            br##""#1"
            " t 2 "
            "t3 # no comment"
            "\"t4\""
            "\u00e95"
        "##,
            0o644,
        )
        .unwrap();
        for id in ["#1", " t 2 ", "t3 # no comment", "\"t4\"", "é5"] {
            assert!(revoked.contains(id), "{id}");
        }
    }

    #[test]
    fn a_byte_order_mark_hides_no_id() {
        let revoked = load(b"\xef\xbb\xbft1\nt2\n", 0o644).unwrap();
        assert!(revoked.contains("t1") && revoked.contains("t2"));
        assert!(load(b"t1\n\xef\xbb\xbft2\n", 0o644).unwrap_err().contains("revoked:2: "));
        assert!(load(b"\xff\xfet\x001\x00\n\x00", 0o644).unwrap_err().contains("is not UTF-8"));
    }

    #[test]
    fn a_list_with_a_line_that_would_call_nothing_back_is_refused_whole() {
        for line in [
            "t1 # stolen",
            "t1#stolen",
            "t1, stolen",
            "t1;t2",
            "t1 t2",
            "t1\u{a0}",
            "'t1'",
            "t1\u{200b}",
            "t1\"",
            "\"t1",
            "\"t1\" # stolen",
            "\"t1\",",
            "\"\"",
            "\"a\\u0000\"",
            "\"a\\u202e\"",
            "b\x07",
            "t1\rt2",
            &"x".repeat(129),
            &format!("{:?}", "x".repeat(129)),
        ] {
            let told = load(format!("a\n{line}\n").as_bytes(), 0o644).unwrap_err();
            assert!(told.contains("revoked:2: "), "{line:?}: {told}");
        }
        assert!(load(b"\xff", 0o644).is_err() && load(b"a\n", 0o666).is_err());
    }
}
