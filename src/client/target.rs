//! Where an agent is reached.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::decimal;

/// Bytes that an address has at most.
const MAX_BYTES: usize = 2048;

/// An agent's address: `https://node-7:8443/api`, `http://127.0.0.1:8080`, `unix:/run/x.sock`, or `unix:/run/x.sock:/api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How to come there.
    pub(super) road: Road,
    /// What stands before every path; empty, or begins with a slash and does not end with one.
    pub(super) base_path: String,
}

/// How to come to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Road {
    /// By TCP, over TLS or without.
    Tcp {
        /// A name or an address, without the brackets of IPv6.
        host: String,
        port: u16,
        is_tls: bool,
    },
    /// A socket of this machine.
    Unix(PathBuf),
}

/// Why a text is no address of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It begins with something else.
    #[error("must begin with https://, http:// or unix:/")]
    Scheme,
    /// It has a user or a password.
    #[error("must not have a user or a password: tokens come from a file or the environment")]
    User,
    /// It has a query or a fragment.
    #[error("must end with the path that stands before /audit, without ? or #")]
    Query,
    /// It has something that is not printable ASCII, or is too long.
    #[error("must be printable ASCII of at most {MAX_BYTES} bytes")]
    Text,
    /// What stands for the host is none.
    #[error("must name a host or its address, IPv6 in brackets")]
    Host,
    /// What stands behind the host is no port.
    #[error("must have a port from 1 to 65535 behind the colon")]
    Port,
}

impl Target {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.len() > MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TargetError::Text);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            // Three slashes are the form of a URL with an empty host.
            let path = path.strip_prefix("//").unwrap_or(path);
            let (path, base_path) = path.split_once(':').unwrap_or((path, ""));
            let is_path = path.len() > 1 && path.starts_with('/');
            if !is_path || !(base_path.is_empty() || base_path.starts_with('/')) {
                return Err(TargetError::Scheme);
            }
            if base_path.contains(['?', '#']) {
                return Err(TargetError::Query);
            }
            return Ok(Self { road: Road::Unix(path.into()), base_path: base_path.trim_end_matches('/').to_owned() });
        }
        let (is_tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(TargetError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(TargetError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(TargetError::User);
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, rest))) => {
                host.parse::<Ipv6Addr>().map_err(|_| TargetError::Host)?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(TargetError::Port)?) };
                (host, port)
            }
            Some(None) => return Err(TargetError::Host),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || !(host.bytes().all(is_in_name) || host.contains(':')) {
            return Err(TargetError::Host);
        }
        let port = match port {
            Some(port) => decimal::parse(port).filter(|&port| port > 0).ok_or(TargetError::Port)?,
            None if is_tls => 443,
            None => 80,
        };
        let road = Road::Tcp { host: host.to_owned(), port, is_tls };
        Ok(Self { road, base_path: path.trim_end_matches('/').to_owned() })
    }

    /// Whether the agent proves who it is, and nobody reads on the way.
    pub const fn is_tls(&self) -> bool {
        matches!(self.road, Road::Tcp { is_tls: true, .. })
    }

    /// Whether what is sent can be read on the way: by TCP without TLS to another machine, as far as the address tells.
    pub fn is_open_to_others(&self) -> bool {
        let Road::Tcp { host, is_tls: false, .. } = &self.road else { return false };
        let is_loopback = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        !is_loopback && host != "localhost"
    }

    /// The value of the `Host` header.
    pub(super) fn host(&self) -> String {
        match &self.road {
            Road::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Road::Tcp { host, port, .. } => format!("{host}:{port}"),
            Road::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.road {
            Road::Tcp { is_tls, .. } => {
                let scheme = if *is_tls { "https" } else { "http" };
                write!(f, "{scheme}://{}{}", self.host(), self.base_path)
            }
            Road::Unix(path) if self.base_path.is_empty() => write!(f, "unix:{}", path.display()),
            Road::Unix(path) => write!(f, "unix:{}:{}", path.display(), self.base_path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for (text, told) in [
            ("https://node-7", "https://node-7:443"),
            ("http://10.0.0.7/", "http://10.0.0.7:80"),
            ("https://[fd00::7]:8443/api/", "https://[fd00::7]:8443/api"),
            ("http://[::1]", "http://[::1]:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
            ("unix:/run/x.sock:/api/", "unix:/run/x.sock:/api"),
        ] {
            assert_eq!(Target::parse(text).unwrap().to_string(), told, "{text}");
        }
        let open = |text| Target::parse(text).unwrap().is_open_to_others();
        assert_eq!(["http://10.0.0.7", "http://[fd00::7]", "http://node-7"].map(open), [true; 3]);
        assert_eq!(["http://127.9.0.1", "http://[::1]", "https://10.0.0.7", "unix:/x"].map(open), [false; 4]);
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        use TargetError::{Host, Port, Query, Scheme, Text, User};
        for (text, error) in [
            ("", Scheme),
            ("node-7", Scheme),
            ("ftp://node-7", Scheme),
            ("unix:", Scheme),
            ("unix:run", Scheme),
            ("unix://run/x", Scheme),
            ("unix:/run/x:y", Scheme),
            ("unix:/run/x:/y?z", Query),
            ("HTTP://x", Scheme),
            ("http://", Host),
            ("http:///x", Host),
            ("http://[::1", Host),
            ("http://[::g]:1", Host),
            ("http://a,b", Host),
            ("http://x:0", Port),
            ("http://x:", Port),
            ("http://x:65536", Port),
            ("http://x:+1", Port),
            ("http://[::1]1", Port),
            ("http://u:p@x", User),
            ("http://x?y", Query),
            ("http://x/#y", Query),
            ("http://x/ y", Text),
            ("http://x\r\nA: b", Text),
            ("http://\u{e4}", Text),
        ] {
            assert_eq!(Target::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Target::parse(&format!("http://{}", "x".repeat(MAX_BYTES))), Err(Text));
    }
}
