//! Sockets that the service manager has bound for the agent: `sd_listen_fds(3)`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// More than anyone passes: a number beyond it is a mistake.
const MOST: u16 = 1024;

/// Why what was passed can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The variables contradict themselves.
    #[error("{variable} is {value:?}, which sd_listen_fds(3) does not allow")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: OsString,
    },
    /// There is no such descriptor.
    #[error("no socket was passed as descriptor {descriptor}")]
    Missing {
        /// Its number.
        descriptor: RawFd,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It is something else than a socket that listens for connections.
    #[error("what was passed as {name:?} is no TCP or Unix socket that listens")]
    Kind {
        /// What the manager calls it.
        name: String,
    },
    /// The system refuses what has to be asked.
    #[error("the socket {name:?} that was passed can't be used")]
    Refused {
        /// What the manager calls it.
        name: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// One that was passed: it listens for connections, over TCP or as a Unix socket.
#[derive(Debug)]
pub struct PassedSocket {
    /// `FileDescriptorName=` of its unit; the unit's name where that says nothing.
    pub name: String,
    descriptor: OwnedFd,
    family: Option<AddressFamily>,
}

impl PassedSocket {
    /// As one that listens over TCP; the socket again where it is a Unix socket.
    pub fn into_tcp(self) -> Result<TcpListener, Self> {
        match self.family {
            Some(AddressFamily::Inet | AddressFamily::Inet6) => Ok(self.descriptor.into()),
            _ => Err(self),
        }
    }

    /// As a Unix socket; the socket again where it is none.
    pub fn into_unix(self) -> Result<UnixListener, Self> {
        if self.family == Some(AddressFamily::Unix) { Ok(self.descriptor.into()) } else { Err(self) }
    }

    fn check(name: String, descriptor: OwnedFd) -> Result<Self, SocketError> {
        let refused =
            |name: &str, errno: nix::Error| SocketError::Refused { name: name.to_owned(), source: errno.into() };
        // The manager's own programs are not to have it.
        fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno| refused(&name, errno))?;
        let is_stream = getsockopt(&descriptor, sockopt::SockType) == Ok(nix::sys::socket::SockType::Stream);
        let listens = getsockopt(&descriptor, sockopt::AcceptConn) == Ok(true);
        if !is_stream || !listens {
            return Err(SocketError::Kind { name });
        }
        let address: SockaddrStorage = getsockname(descriptor.as_raw_fd()).map_err(|errno| refused(&name, errno))?;
        Ok(Self { name, descriptor, family: address.family() })
    }
}

/// All that were passed.
#[derive(Debug, Default)]
pub struct Sockets(Vec<PassedSocket>);

impl Sockets {
    /// Takes what the environment says was passed to this process. To be called once, before anything else is opened.
    pub fn take() -> Result<Self, SocketError> {
        let variable = |name| env::var_os(name);
        let Some(count) = count(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id())? else {
            return Ok(Self::default());
        };
        let names = names(&variable("LISTEN_FDNAMES").unwrap_or_default(), count)?;
        let sockets = (FIRST..).zip(names).map(|(number, name)| PassedSocket::check(name, own(number)?));
        sockets.collect::<Result<_, _>>().map(Self)
    }
}

impl IntoIterator for Sockets {
    type Item = PassedSocket;
    type IntoIter = std::vec::IntoIter<PassedSocket>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// How many were passed to this process; none where another one is meant.
fn count(pid: Option<OsString>, count: Option<OsString>, own_pid: u32) -> Result<Option<u16>, SocketError> {
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(None) };
    let bad = |variable, value: &OsString| SocketError::Variable { variable, value: value.clone() };
    let meant: u32 = pid.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| bad("LISTEN_PID", &pid))?;
    if meant != own_pid {
        return Ok(None);
    }
    let number = count.to_str().and_then(|text| text.parse().ok()).filter(|&number| number <= MOST);
    number.map(Some).ok_or_else(|| bad("LISTEN_FDS", &count))
}

/// A name for each.
fn names(names: &OsString, count: u16) -> Result<Vec<String>, SocketError> {
    let text = names.to_string_lossy();
    // `unknown` is what sd_listen_fds_with_names(3) calls those without a name.
    let mut given: Vec<_> = text.split(':').filter(|_| !text.is_empty()).map(str::to_owned).collect();
    if given.is_empty() {
        given = vec!["unknown".to_owned(); count.into()];
    }
    if given.len() != usize::from(count) {
        return Err(SocketError::Variable { variable: "LISTEN_FDNAMES", value: names.clone() });
    }
    Ok(given)
}

/// Takes a descriptor that was passed, once it is sure that there is one.
#[expect(unsafe_code, reason = "a descriptor that was passed is known by its number alone")]
fn own(number: RawFd) -> Result<OwnedFd, SocketError> {
    let link = PathBuf::from(format!("/proc/self/fd/{number}"));
    let missing = |source| SocketError::Missing { descriptor: number, source };
    let target = fs::read_link(link).map_err(missing)?;
    if !target.to_string_lossy().starts_with("socket:") {
        return Err(missing(io::Error::other(format!("it is {}", target.display()))));
    }
    // SAFETY: it is open, as was just seen, and it is the manager's gift to this process (LISTEN_PID): nothing in this process has
    // opened it, so nothing else owns it. Each number is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_to_another_process_is_not_ours() {
        let passed = |pid: &str, fds: &str| count(Some(pid.into()), Some(fds.into()), 42);
        assert_eq!(passed("42", "2").unwrap(), Some(2));
        assert_eq!(passed("43", "2").unwrap(), None);
        assert_eq!(count(None, Some("2".into()), 42).unwrap(), None);
        assert_eq!(count(Some("42".into()), None, 42).unwrap(), None);
        for (pid, fds) in [("42", "-1"), ("42", "two"), ("42", "1025"), ("", "1"), ("me", "1")] {
            assert!(passed(pid, fds).is_err(), "{pid} {fds}");
        }
    }

    #[test]
    fn each_has_a_name() {
        assert_eq!(names(&"http:https".into(), 2).unwrap(), ["http", "https"]);
        assert_eq!(names(&"".into(), 2).unwrap(), ["unknown", "unknown"]);
        assert!(names(&"http".into(), 2).is_err());
    }

    #[test]
    fn what_is_no_socket_is_not_taken() {
        let missing = own(RawFd::MAX).unwrap_err();
        assert!(matches!(missing, SocketError::Missing { .. }), "{missing}");
        let file = fs::File::open("/proc/self/exe").unwrap();
        assert!(own(file.as_raw_fd()).is_err());
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let stream = std::os::unix::net::UnixStream::pair().unwrap().0;
        let refused = PassedSocket::check("http".to_owned(), stream.into()).unwrap_err();
        assert!(matches!(refused, SocketError::Kind { .. }), "{refused}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = PassedSocket::check("http".to_owned(), listener.into()).unwrap();
        assert_eq!(taken.into_tcp().unwrap().local_addr().unwrap(), address);
    }
}
