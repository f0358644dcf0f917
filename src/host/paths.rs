//! Where the node's files are.
//!
//! The only place that joins `/proc`, `/sys`, `/etc`, `/run` and `/usr`, so that an agent in a container, and every test,
//! can be pointed at another tree.

use std::path::{Path, PathBuf};

/// The node's file tree.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The tree below `root`; `/` for the node that the agent runs on.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether this is the running node's own tree.
    pub fn is_own(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A file that the node names by its absolute path, such as a mount point.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file below `/proc`.
    pub fn proc(&self, name: &str) -> PathBuf {
        self.root.join("proc").join(name)
    }

    /// A file below `/sys`.
    pub fn sys(&self, name: &str) -> PathBuf {
        self.root.join("sys").join(name)
    }

    /// A file below `/etc`.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.root.join("etc").join(name)
    }

    /// A file below `/run`.
    pub fn run(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// A file below `/usr`.
    pub fn usr(&self, name: &str) -> PathBuf {
        self.root.join("usr").join(name)
    }
}
