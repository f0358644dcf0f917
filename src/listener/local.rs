//! The Unix socket: its file, and who is at the other end of a connection.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::Mode;

use crate::audit::redact::bounded;
use crate::auth::LocalPeer;
use crate::host::Users;

/// Everyone may connect, so that whoever is refused is recorded. Who may do what, the agent decides.
const SOCKET_MODE: u32 = 0o666;

/// Bytes of a name in an entry.
const USER_MAX_BYTES: usize = 256;

/// Whom a user namespace has instead of those that it does not map (`user_namespaces(7)`), unless the node says otherwise.
const OVERFLOW_UID: u32 = 65_534;

/// What stands in entries for one of them.
const UNMAPPED_USER: &str = "unmapped";

/// A Unix socket that listens.
#[derive(Debug)]
pub(crate) struct LocalListener {
    listener: UnixListener,
    file: Option<SocketFile>,
}

/// The file of a socket that the agent made; removed when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Another agent may have made one of its own there since. While this is open, that one can't have the same inode.
    inode: File,
}

impl LocalListener {
    /// Makes the socket `path`. One that an agent has left behind which was killed is replaced; nothing else is.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        clear(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
        // Not by `OpenOptions`, which takes O_PATH for an access mode where musl is the C library, and leaves it out.
        let inode = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let file = SocketFile { path: path.to_owned(), inode: inode.into() };
        Ok(Self { listener, file: Some(file) })
    }

    /// A socket that was bound elsewhere. Its file is not the agent's to remove.
    pub(crate) const fn adopt(listener: UnixListener) -> Self {
        Self { listener, file: None }
    }

    /// The file, where the agent made it: to be kept for as long as the socket is served.
    pub(crate) fn take_file(&mut self) -> Option<SocketFile> {
        self.file.take()
    }

    /// The socket.
    pub(super) fn into_listener(self) -> UnixListener {
        self.listener
    }
}

/// Removes a socket that nobody listens on any more.
fn clear(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let (made, found) = (self.inode.metadata().map(id), fs::symlink_metadata(&self.path).map(id));
        let is_ours = made.is_ok_and(|made| found.is_ok_and(|found| found == made));
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the socket {} stays behind: {error}", self.path.display());
        }
    }
}

/// Says who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct LocalPeers {
    users: Users,
    /// Whose members may read the audit, beside root.
    group: Option<String>,
}

impl LocalPeers {
    pub(crate) const fn new(users: Users, group: Option<String>) -> Self {
        Self { users, group }
    }

    /// Whose process has connected. By the groups that it has, not by those that `group(5)` would give its user: what the kernel tells is
    /// what counts for files as well, and was true when it connected. Blocks.
    pub(super) fn identify(&self, stream: &impl AsFd) -> io::Result<LocalPeer> {
        let credentials = getsockopt(stream, sockopt::PeerCredentials)?;
        let uid = credentials.uid();
        let are_told_apart = self.users.are_told_apart().map_err(io::Error::other)?;
        // Where groups can't be told apart either, all that are not mapped would be members of `nogroup`.
        let may_read = uid == 0
            || are_told_apart
                && self.group_id()?.is_some_and(|group| {
                    credentials.gid() == group
                        || supplementary_groups(stream).is_ok_and(|groups| groups.contains(&group))
                });
        let name = if uid == OVERFLOW_UID && !are_told_apart {
            Some(UNMAPPED_USER.to_owned())
        } else {
            self.users.name_of(uid).map_err(io::Error::other)?
        };
        let user = name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("uid:{uid}"));
        Ok(LocalPeer { uid, user: bounded(&user, USER_MAX_BYTES), may_read })
    }

    /// Looked up each time: a group may be made while the agent runs.
    fn group_id(&self) -> io::Result<Option<u32>> {
        let Some(group) = &self.group else { return Ok(None) };
        self.users.gid_of(group).map_err(io::Error::other)
    }
}

/// The supplementary groups of the process that has connected (`SO_PEERGROUPS`, since Linux 4.13).
#[expect(unsafe_code, reason = "nix has no SO_PEERGROUPS")]
fn supplementary_groups(socket: &impl AsFd) -> io::Result<Vec<libc::gid_t>> {
    let socket = socket.as_fd().as_raw_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = size_of_val(&groups[..]);
        let mut bytes = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `bytes` bytes, which `groups` has, and sets `bytes` to how many it wrote or wants to write;
        // any bits are a group's number. Both live until the call returns, and the descriptor is open as long as its owner is borrowed.
        let done = unsafe {
            libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut bytes)
        };
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        if done == 0 {
            groups.truncate(bytes / size_of::<libc::gid_t>());
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || bytes <= room {
            return Err(error);
        }
        groups.resize(bytes.div_ceil(size_of::<libc::gid_t>()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_groups_are_those_of_its_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut groups = supplementary_groups(&ours).unwrap();
        let mut own: Vec<_> = nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // What is dropped without its file is like one whose process was killed.
        drop(UnixListener::bind(&path).unwrap());
        let first = LocalListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_socket_that_another_agent_has_made_since_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let file = LocalListener::bind(&path).unwrap().take_file();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
