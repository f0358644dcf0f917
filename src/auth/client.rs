//! Whom a call counts for: the socket's peer, or the client that a trusted proxy names.
//!
//! One rule for entries and for limits. `Forwarded` (RFC 7239) and `X-Forwarded-For` are read from the end, where the nearest
//! proxy writes: each address that is a trusted proxy's is passed over, and the first other one is the client. What stands before
//! that, anyone can have written.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decimal;

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
}

impl Client {
    /// Whom its calls count for.
    pub fn counted(&self) -> IpAddr {
        network_of(self.forwarded_for.unwrap_or(self.peer))
    }
}

/// The address that stands for all that one customer can call from.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_PREFIX).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// The proxies that are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// These.
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whom a request that `peer` sends with these headers counts for.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        let forwarded_for = if self.trusts(peer) { self.forwarded_for(headers) } else { None };
        Client { peer, forwarded_for }
    }

    /// Where both headers are there and differ, nobody is named: a proxy writes one of them and passes the other one on as the
    /// client sent it, and which is which can't be seen.
    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let standard = headers
            .contains_key(FORWARDED)
            .then(|| self.rightmost(headers, &FORWARDED, forwarded_elements, node_of_element));
        let common = headers
            .contains_key(X_FORWARDED_FOR)
            .then(|| self.rightmost(headers, &X_FORWARDED_FOR, addresses, address));
        match (standard, common) {
            (Some(standard), Some(common)) if standard == common => standard,
            (Some(_), Some(_)) | (None, None) => None,
            (Some(one), None) | (None, Some(one)) => one,
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
        self.0.iter().any(|network| network.holds(address))
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

/// An address, or those that begin with the same bits: `192.0.2.7`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        let matches = |a: u128, b: u128, width: u32| self.bits == 0 || (a ^ b) >> (width - self.bits) == 0;
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => matches(own.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => matches(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be IP addresses and networks, as \"192.0.2.7\" or \"2001:db8::/32\"";
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => decimal::parse(bits).filter(|&bits| bits <= width).ok_or(wrong)?,
        };
        if address != address.to_canonical() {
            return Err("must be IPv4 addresses as such, without ::ffff: before them");
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        write!(f, "{}", self.address)?;
        if self.bits == width { Ok(()) } else { write!(f, "/{}", self.bits) }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
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
        let client = TrustedProxies::new(trusted.to_vec()).client(peer.parse().unwrap(), &map);
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
    fn two_headers_that_differ_name_nobody() {
        let of = |standard, common| client("127.0.0.1", &[("forwarded", standard), ("x-forwarded-for", common)]);
        assert_eq!(of("for=198.51.100.9", "198.51.100.9").as_deref(), Some("198.51.100.9"));
        assert_eq!(of("for=10.9.9.9", "198.51.100.9"), None);
        assert_eq!(of("for=unknown", "198.51.100.9"), None);
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "127.0.0.1", "::1", "2001:db8::/32"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for wrong in ["", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+1", "node", "::ffff:192.0.2.1", "::1/129"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.holds("203.0.113.1".parse().unwrap()) && !all.holds("2001:db8::1".parse().unwrap()));
    }
}
