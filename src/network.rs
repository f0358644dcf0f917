//! An address or a network of addresses.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::decimal;

/// The addresses that begin with the same bits. IPv4 addresses that are written as IPv6 ones are IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u32,
}

impl Network {
    pub(super) const FORM: &str = "an IP address, or a network such as 10.0.0.0/8";

    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some((address, bits)) = text.split_once('/') else {
            let first = text.parse::<IpAddr>().ok()?.to_canonical();
            return Some(Self { first, prefix_bits: if first.is_ipv4() { 32 } else { 128 } });
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

    /// The first and the last address of it, in network order.
    pub(in crate::audit) fn ends(self) -> (Vec<u8>, Vec<u8>) {
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
        write!(f, "{}/{}", self.first, self.prefix_bits)
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
