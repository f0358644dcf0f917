//! `server.socket`: where the Unix socket is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::is_absolute;

/// Bytes of a path that a socket can have (unix(7)).
const PATH_MAX_BYTES: usize = 107;

/// The name of the socket in the runtime directory.
const FILE_NAME: &str = "nodeaudit.sock";

/// Where the Unix socket is, if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SocketPath {
    /// `auto`: `nodeaudit.sock` in the folder that the service manager has made for the agent (`RuntimeDirectory=`); none where it has
    /// made none.
    #[default]
    Auto,
    /// An empty text: there is none.
    None,
    /// Here.
    At(PathBuf),
}

impl SocketPath {
    /// The path; `runtime_directory` is the folder that the service manager has made.
    pub fn resolve(&self, runtime_directory: Option<&Path>) -> Option<PathBuf> {
        match self {
            Self::Auto => runtime_directory.map(|folder| folder.join(FILE_NAME)),
            Self::None => None,
            Self::At(path) => Some(path.clone()),
        }
    }

    /// Whether a socket can be there.
    pub(super) fn is_allowed(&self) -> bool {
        let Self::At(path) = self else { return true };
        is_absolute(path) && path.as_os_str().len() <= PATH_MAX_BYTES
    }
}

impl Serialize for SocketPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::None => serializer.serialize_str(""),
            Self::At(path) => path.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SocketPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        Ok(match path.to_str() {
            Some("auto") => Self::Auto,
            Some("") => Self::None,
            _ => Self::At(path),
        })
    }
}
