//! Nodes for unit tests: a file tree in a folder that vanishes.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Changes, Host, Paths};

/// A node's file tree.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    /// A tree without files.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a file.
    pub(crate) fn with(self, path: &str, text: &str) -> Self {
        let file = self.0.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    /// With a symbolic link.
    pub(crate) fn with_link(self, path: &str, target: &str) -> Self {
        let link = self.0.path().join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
        self
    }

    /// Where its files are.
    pub(crate) fn paths(&self) -> Paths {
        Paths::new(self.0.path())
    }

    /// The node that has this tree.
    pub(crate) fn host(&self) -> Host {
        Host::new(self.paths(), Changes::Apply)
    }

    /// The node that has this tree, in development mode.
    pub(crate) fn unchangeable_host(&self) -> Host {
        Host::new(self.paths(), Changes::Refuse)
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
