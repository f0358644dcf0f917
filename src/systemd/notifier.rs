//! Telling the service manager how the agent is: `sd_notify(3)`, by hand, because it is one datagram.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::host::clock;

/// The longest that the agent waits for a manager that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the service manager, if one started the agent.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let manager = env::var_os("NOTIFY_SOCKET").and_then(|name| match reach(&name) {
            Ok(manager) => Some(manager),
            Err(error) => {
                log::warn!("can't tell the service manager anything at {}: {error}", name.display());
                None
            }
        });
        let (limit_us, pid) = (env::var_os("WATCHDOG_USEC"), env::var_os("WATCHDOG_PID"));
        let watchdog = manager.as_ref().and_then(|_| watchdog(limit_us, pid, std::process::id()));
        Self { manager, watchdog }
    }

    /// Whether there is someone to tell.
    pub const fn is_heard(&self) -> bool {
        self.manager.is_some()
    }

    /// The longest that the manager waits for a sign of life, if it does.
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The agent serves.
    pub fn ready(&self, status: &str) {
        self.tell("READY=1", Some(status));
    }

    /// What the agent does now, for people.
    pub fn status(&self, status: &str) {
        self.tell("", Some(status));
    }

    /// The agent lives.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1", None);
    }

    /// The agent reads its configuration again; [`Self::ready`] ends it.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_us()), None);
    }

    /// The agent ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1", Some("stopping"));
    }

    fn tell(&self, state: &str, status: Option<&str>) {
        let Some((socket, manager)) = &self.manager else { return };
        let mut message = state.to_owned();
        if let Some(status) = status {
            // A line of its own is another message.
            let status = status.replace(['\n', '\r'], " ");
            let separator = if message.is_empty() { "" } else { "\n" };
            write!(message, "{separator}STATUS={status}").expect("writing to a String can't fail");
        }
        if let Err(error) = socket.send_to_addr(message.as_bytes(), manager) {
            log::warn!("the service manager can't be told {state:?}: {error}");
        }
    }
}

fn reach(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor an abstract socket")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, manager))
}

/// `sd_watchdog_enabled(3)`: a limit that is meant for this process.
fn watchdog(limit_us: Option<OsString>, pid: Option<OsString>, own_pid: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if let Some(pid) = pid
        && number(pid) != Some(u64::from(own_pid))
    {
        return None;
    }
    limit_us.and_then(number).filter(|&limit_us| limit_us > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_with_a_path_and_an_abstract_one_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("nodeaudit-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let cases = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ];
        for (socket, name) in cases {
            let notifier = Notifier { manager: Some(reach(&name).unwrap()), watchdog: None };
            notifier.ready("serving\nREADY=0");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=serving READY=0", "a status can't say anything else");
            notifier.alive();
            assert_eq!(heard(&socket), "WATCHDOG=1");
            notifier.reloading();
            let reloading = heard(&socket);
            let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(since.parse::<u64>().unwrap() > 0, "{reloading}");
        }
    }

    #[test]
    fn an_address_of_no_known_form_is_refused() {
        for name in ["", "relative", "vsock:2:1234"] {
            assert!(reach(name.as_ref()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_limit_of_another_process_is_not_ours() {
        let limit = |limit_us: &str, pid: Option<&str>| watchdog(Some(limit_us.into()), pid.map(Into::into), 42);
        assert_eq!(limit("2500000", None), Some(Duration::from_millis(2500)));
        assert_eq!(limit("2500000", Some("42")), Some(Duration::from_millis(2500)));
        for (limit_us, pid) in
            [("2500000", Some("43")), ("2500000", Some("")), ("0", None), ("-1", None), ("1 s", None)]
        {
            assert_eq!(limit(limit_us, pid), None, "{limit_us} {pid:?}");
        }
        assert_eq!(watchdog(None, None, 42), None);
    }
}
