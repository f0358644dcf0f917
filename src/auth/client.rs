//! Whom a call counts for: the socket's peer, or the client that a trusted proxy names.
//!
//! One rule for entries and for limits. The header that the proxies write, `X-Forwarded-For` or `Forwarded` (RFC 7239), is read
//! from the end, where the nearest one writes: each address that is a trusted proxy's is passed over, and the first other one is
//! the client. What stands before that, anyone can have written; so can the header that the proxies do not write.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::LocalPeer;
use crate::decimal;
use crate::network::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// So many hops are looked at; more proxies than that are in no chain.
const MAX_HOPS: usize = 32;

/// The bits of an IPv6 address that one customer has (RFC 6177): he can choose the others as he likes.
const IPV6_PREFIX: u128 = !0 << 64;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The socket's peer.
    pub peer: IpAddr,
    /// The client that a trusted proxy names.
    pub forwarded_for: Option<IpAddr>,
    /// Whom a process of this node counts for.
    local: Option<IpAddr>,
}

impl Client {
    /// A process of this node. What it says of others is not believed.
    pub fn local(peer: &LocalPeer) -> Self {
        Self { peer: LocalPeer::ADDRESS, forwarded_for: None, local: Some(peer.counted()) }
    }

    /// Someone whom nobody has looked at.
    pub(super) const fn unknown() -> Self {
        Self { peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED), forwarded_for: None, local: None }
    }

    /// Whom its calls count for.
    pub fn counted(&self) -> IpAddr {
        network_of(self.local.or(self.forwarded_for).unwrap_or(self.peer))
    }
}

/// The address that stands for all that one customer can call from.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_PREFIX).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// Where a proxy names its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// What nginx and HAProxy write.
    #[default]
    XForwardedFor,
    /// The standard's (RFC 7239).
    Forwarded,
}

/// The proxies that are believed, and the header that they write.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// These.
    pub const fn new(networks: Vec<Network>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// Whom a request that `peer` sends with these headers counts for.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        let forwarded_for = if self.trusts(peer) { self.forwarded_for(headers) } else { None };
        Client { peer, forwarded_for, local: None }
    }

    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        match self.header {
            ForwardedHeader::XForwardedFor => self.rightmost(headers, &X_FORWARDED_FOR, addresses, address),
            ForwardedHeader::Forwarded => self.rightmost(headers, &FORWARDED, forwarded_elements, node_of_element),
        }
    }

    /// The last hop that is not a trusted proxy, in all lines of a header together.
    fn rightmost(
        &self,
        headers: &HeaderMap,
        name: &HeaderName,
        elements: fn(&str) -> Vec<&str>,
        read: fn(&str) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        let lines: Vec<&HeaderValue> = headers.get_all(name).collect();
        let mut hops = 0;
        for line in lines.into_iter().rev() {
            // What can't be read might hide anything: nobody is named, rather than one who stands further to the left.
            for hop in elements(&String::from_utf8_lossy(line.as_bytes())) {
                let hop = read(hop)?.to_canonical();
                if !self.trusts(hop) {
                    return Some(hop);
                }
                hops += 1;
                if hops == MAX_HOPS {
                    return None;
                }
            }
        }
        None
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(address))
    }
}

/// The elements of `X-Forwarded-For`, which has no quotes, from the last one on. Empty ones are none.
fn addresses(line: &str) -> Vec<&str> {
    line.rsplit(',').map(str::trim).filter(|element| !element.is_empty()).collect()
}

/// The elements of `Forwarded` (RFC 7239, section 4), from the last one on. Empty ones are none.
fn forwarded_elements(line: &str) -> Vec<&str> {
    split(line, b',').into_iter().map(str::trim).filter(|element| !element.is_empty()).collect()
}

/// The parts between separators that do not stand in a quoted string (RFC 9110, section 5.6.4), from the last one on.
///
/// Read from the end, because the caller writes what comes first: a quote that he does not close must not swallow what the proxy
/// writes after it.
fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), text.len(), false);
    for (at, byte) in text.bytes().enumerate().rev() {
        let backslashes = || text.as_bytes()[..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
        if byte == b'"' && !(quoted && backslashes() % 2 == 1) {
            quoted = !quoted;
        } else if byte == separator && !quoted {
            parts.push(&text[at + 1..end]);
            end = at;
        }
    }
    parts.push(&text[..end]);
    parts
}

/// The node of `for=` in a forwarded-element (RFC 7239, section 4), where it is an address; an obfuscated or unknown one names
/// nobody.
fn node_of_element(element: &str) -> Option<IpAddr> {
    let mut nodes = split(element, b';').into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let node = nodes.next()?;
    if nodes.next().is_some() {
        return None;
    }
    let unquoted = node.strip_prefix('"').and_then(|node| node.strip_suffix('"'));
    address(unquoted.unwrap_or(node))
}

/// An address, with or without brackets and port (RFC 7239, section 6).
fn address(node: &str) -> Option<IpAddr> {
    if let Ok(address) = node.parse() {
        return Some(address);
    }
    if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_port.then(|| address.parse::<Ipv6Addr>().ok()).flatten().map(IpAddr::V6);
    }
    let (address, port) = node.split_once(':')?;
    is_port(port).then(|| address.parse().ok()).flatten()
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && decimal::parse::<u32>(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)]) -> Option<String> {
        let trusted = ["192.0.2.0/24", "2001:db8:1::/48", "127.0.0.1"].map(|network| network.parse().unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let header =
            if map.contains_key(FORWARDED) { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
        let client = TrustedProxies::new(trusted.to_vec(), header).client(peer.parse().unwrap(), &map);
        client.forwarded_for.map(|address| address.to_string())
    }

    #[test]
    fn nobody_but_a_trusted_proxy_speaks_for_others() {
        for headers in [[("x-forwarded-for", "198.51.100.9")], [("forwarded", "for=198.51.100.9")]] {
            assert_eq!(client("203.0.113.1", &headers), None);
            assert_eq!(client("127.0.0.2", &headers), None);
            for proxy in ["127.0.0.1", "192.0.2.255", "::ffff:192.0.2.1", "2001:db8:1:ffff::1"] {
                assert_eq!(client(proxy, &headers).as_deref(), Some("198.51.100.9"), "{proxy}");
            }
        }
    }

    #[test]
    fn the_rightmost_hop_that_is_no_proxy_is_the_client() {
        let of = |value: &str| client("127.0.0.1", &[("x-forwarded-for", value)]);
        assert_eq!(of("10.9.9.9, 198.51.100.9").as_deref(), Some("198.51.100.9"), "what a client wrote is left of it");
        assert_eq!(of("10.9.9.9, 198.51.100.9, 192.0.2.8,192.0.2.9").as_deref(), Some("198.51.100.9"));
        assert_eq!(of("::ffff:198.51.100.9").as_deref(), Some("198.51.100.9"));
        assert_eq!(of("198.51.100.9:4711").as_deref(), Some("198.51.100.9"));
        assert_eq!(of("[2001:db8::7]:4711").as_deref(), Some("2001:db8::7"));
        assert_eq!(of("2001:db8::7").as_deref(), Some("2001:db8::7"));
        assert_eq!(of("192.0.2.8"), None, "only proxies");
        for unreadable in ["198.51.100.9, unknown", "198.51.100.9, 1.2.3", "198.51.100.9, 1.2.3.4:x", "", ",,", "\"a"] {
            assert_eq!(of(unreadable), None, "{unreadable}");
        }
        for open in ["\"", "\"\\", "10.9.9.9, \"x", "\u{e9}"] {
            assert_eq!(of(&format!("{open}, 198.51.100.9")).as_deref(), Some("198.51.100.9"), "{open}");
        }
        let two_lines = [("x-forwarded-for", "10.9.9.9"), ("x-forwarded-for", "198.51.100.9")];
        assert_eq!(client("127.0.0.1", &two_lines).as_deref(), Some("198.51.100.9"));
    }

    #[test]
    fn a_forwarded_header_is_read_as_the_standard_has_it() {
        let of = |value: &str| client("127.0.0.1", &[("forwarded", value)]);
        assert_eq!(
            of("for=10.9.9.9, For=\"198.51.100.9:80\";proto=https;by=192.0.2.9").as_deref(),
            Some("198.51.100.9")
        );
        assert_eq!(of("for=\"[2001:db8::7]\"").as_deref(), Some("2001:db8::7"));
        assert_eq!(of("host=\"a,for=10.9.9.9\";for=198.51.100.9").as_deref(), Some("198.51.100.9"));
        for open in ["\"", "for=\"", "for=\"a\\", "\u{e9}"] {
            let line = format!("{open}, for=\"198.51.100.9:80\";by=\"_a\\\"b\"");
            assert_eq!(of(&line).as_deref(), Some("198.51.100.9"), "{open}");
        }
        for nobody in
            ["for=_hidden", "for=unknown", "proto=https", "for=1.2.3.4;for=5.6.7.8", "for=198.51.100.9, for=x"]
        {
            assert_eq!(of(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn the_header_that_the_proxies_do_not_write_is_not_read() {
        let mut both = HeaderMap::new();
        both.append(FORWARDED, HeaderValue::from_static("for=10.9.9.9"));
        both.append(X_FORWARDED_FOR, HeaderValue::from_static("198.51.100.9"));
        for (header, client) in
            [(ForwardedHeader::XForwardedFor, "198.51.100.9"), (ForwardedHeader::Forwarded, "10.9.9.9")]
        {
            let trusted = TrustedProxies::new(vec!["127.0.0.1".parse().unwrap()], header);
            let named = trusted.client("127.0.0.1".parse().unwrap(), &both).forwarded_for;
            assert_eq!(named, Some(client.parse().unwrap()), "{header:?}");
        }
    }
}
