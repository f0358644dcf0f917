//! An address, or all that begin with the same bits (RFC 4632, RFC 4291): `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
//!
//! One notion of it for settings and for queries.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::decimal;

/// The addresses that begin with the same bits. IPv4 addresses that are written as IPv6 ones are IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// What the text of one must be.
    pub(crate) const FORM: &str = "an IP address, or a network such as 10.0.0.0/8";

    fn parse(text: &str) -> Option<Self> {
        let Some((address, bits)) = text.split_once('/') else {
            let first = text.parse::<IpAddr>().ok()?.to_canonical();
            return Some(Self { first, prefix_bits: width(first) });
        };
        let bits = decimal::parse::<u32>(bits).filter(|_| bits.len() <= 3)?;
        match address.parse().ok()? {
            IpAddr::V4(address) => Self::v4(address, bits),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(mapped) if bits >= 96 => Self::v4(mapped, bits - 96),
                _ => Self::v6(address, bits),
            },
        }
    }

    fn v4(address: Ipv4Addr, prefix_bits: u32) -> Option<Self> {
        let rest = u32::MAX.checked_shr(prefix_bits).unwrap_or(0);
        let first = Ipv4Addr::from_bits(address.to_bits() & !rest);
        (prefix_bits <= 32).then_some(Self { first: first.into(), prefix_bits })
    }

    fn v6(address: Ipv6Addr, prefix_bits: u32) -> Option<Self> {
        let rest = u128::MAX.checked_shr(prefix_bits).unwrap_or(0);
        let first = Ipv6Addr::from_bits(address.to_bits() & !rest);
        (prefix_bits <= 128).then_some(Self { first: first.into(), prefix_bits })
    }

    /// Whether an address is one of it.
    pub fn holds(self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(address)) => Self::v4(address, self.prefix_bits) == Some(self),
            (IpAddr::V6(_), IpAddr::V6(address)) => Self::v6(address, self.prefix_bits) == Some(self),
            _ => false,
        }
    }

    /// The first and the last address of it, in network order.
    pub(crate) fn ends(self) -> (Vec<u8>, Vec<u8>) {
        match self.first {
            IpAddr::V4(first) => {
                let last = first.to_bits() | u32::MAX.checked_shr(self.prefix_bits).unwrap_or(0);
                (first.octets().into(), last.to_be_bytes().into())
            }
            IpAddr::V6(first) => {
                let last = first.to_bits() | u128::MAX.checked_shr(self.prefix_bits).unwrap_or(0);
                (first.octets().into(), last.to_be_bytes().into())
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.prefix_bits == width(self.first) { Ok(()) } else { write!(f, "/{}", self.prefix_bits) }
    }
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A text that is no address and no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must be {}", Network::FORM)]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or(NotANetwork)
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

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "anyOf": [
            { "format": "ipv4" },
            { "format": "ipv6" },
            { "pattern": "^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}/(3[0-2]|[12]?[0-9])$" },
            { "pattern": "^([0-9a-f]{1,4}:){1,7}:/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$" },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "127.0.0.1", "::1", "2001:db8::/32", "::/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        let same =
            [("10.9.9.9/8", "10.0.0.0/8"), ("::ffff:192.0.2.1", "192.0.2.1"), ("::ffff:10.0.0.0/104", "10.0.0.0/8")];
        for (text, written) in same {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), written);
        }
        for wrong in ["", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+1", "node", "::1/129"] {
            assert_eq!(wrong.parse::<Network>(), Err(NotANetwork), "{wrong}");
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let holds = |network: &str, address: &str| network.parse::<Network>().unwrap().holds(address.parse().unwrap());
        assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("192.0.2.0/25", "::ffff:192.0.2.127") && !holds("192.0.2.0/25", "192.0.2.128"));
        assert!(holds("2001:db8:1::/48", "2001:db8:1:ffff::1") && !holds("2001:db8:1::/48", "2001:db8:2::"));
        assert!(holds("::1", "::1") && !holds("::1", "127.0.0.1"));
    }
}
