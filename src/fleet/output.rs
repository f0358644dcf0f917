//! The entries of a node: a file to which lines are added.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::place::sync_folder_of;

/// The file, as long as its place says.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    pub(super) bytes: u64,
}

impl Output {
    /// Opens the file, or makes it. What stands behind `bytes` was written by one who died before he accounted for it, and is cut off: it
    /// comes again.
    pub(super) fn open(path: &Path, bytes: u64) -> io::Result<Self> {
        let is_new = !path.exists();
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let length = file.metadata()?.len();
        if length < bytes {
            let message = format!("it has {length} bytes, of which {bytes} should be there already");
            return Err(io::Error::other(message));
        }
        if length > bytes {
            file.set_len(bytes)?;
            file.sync_all()?;
        }
        if is_new {
            sync_folder_of(path)?;
        }
        Ok(Self { file, bytes })
    }

    /// Adds lines. They are on stable storage when this returns.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Cuts off what stands behind `bytes`. Where that fails too, the next run does it, or puts the file aside.
    pub(super) fn cut(&mut self, bytes: u64) {
        self.bytes = bytes;
        let _ = self.file.set_len(bytes);
    }
}
