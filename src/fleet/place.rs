//! Where the reading of a node's log goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::Known;

/// A cursor, and how much of the output it accounts for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The ring that this is a place in.
    pub(super) epoch: Uuid,
    /// The seq behind which to go on.
    pub(super) after: u64,
    /// What is accounted for in each class, as the agent has put it.
    pub(super) known: String,
    /// The tag of the last answer, where there was nothing more to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// Bytes of the output that are accounted for by this place.
    pub(super) output_bytes: u64,
}

impl Place {
    /// The place in a file; none where there is no file.
    pub(super) fn load(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let place: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if Known::parse(&place.known).is_none() || !place.etag.as_deref().is_none_or(is_tag) {
            return Err(io::Error::other("it is not a cursor"));
        }
        Ok(Some(place))
    }

    /// Stores it, so that a file has either all of it or what it had before, whatever happens.
    pub(super) fn store(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("json.tmp");
        // One that a crash has left is overwritten.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
        let text = serde_json::to_string(self).expect("a place is plain data");
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder_of(path)
    }
}

/// Whether a text can be sent as a tag.
pub(super) fn is_tag(text: &str) -> bool {
    text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Has the names in a folder survive a power cut.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
