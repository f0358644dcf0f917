//! Network interfaces, from `/sys/class/net` (`sysfs(5)`) and `getifaddrs(3)`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::file::{malformed, read_word};
use super::{Host, HostError, Paths};

/// Longest name of an interface: `IFNAMSIZ` without its zero byte (`netdevice(7)`).
const NAME_MAX: usize = 15;

/// The network interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NetworkInterfaces {
    /// In the order of their names.
    pub interfaces: Vec<NetworkInterface>,
}

/// A network interface. The counters start at 0 when the interface appears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NetworkInterface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its number (`netdevice(7)`).
    pub index: u32,
    /// Operational state: `up`, `down`, `dormant`, `unknown`, ... (RFC 2863).
    pub state: String,
    /// Hardware address; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Largest packet that it sends.
    pub mtu_bytes: u64,
    /// Speed of the link in Mbit/s; absent where it is not known or there is no link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_mbit_per_second: Option<u64>,
    /// Addresses with their prefix length, such as `192.0.2.7/24` or `fe80::1/64`.
    pub addresses: Vec<String>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets received and dropped for want of room.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets not sent because of errors.
    pub tx_errors: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}

/// A well-formed name of an interface: what a node can be asked about, whether it has it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name, or why it is none. No such name leads out of `/sys/class/net`, but for `.` and `..`.
    pub fn parse(name: &str) -> Result<Self, HostError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            return Ok(Self(name.to_owned()));
        }
        Err(HostError::Invalid {
            what: "interface name",
            reason: "it must be 1 to 15 visible ASCII characters without slash and colon".to_owned(),
        })
    }
}

impl JsonSchema for InterfaceName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "InterfaceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Name of a network interface, such as eth0.",
            "minLength": 1,
            "maxLength": NAME_MAX,
            "pattern": "^[!-.0-9;-~]+$",
        })
    }
}

impl Host {
    /// The network interfaces.
    pub async fn network_interfaces(&self) -> Result<NetworkInterfaces, HostError> {
        let paths = self.paths.clone();
        self.storage.run("the network interfaces", move || read_all(&paths)).await
    }

    /// One network interface.
    pub async fn network_interface(&self, name: &str) -> Result<NetworkInterface, HostError> {
        let InterfaceName(name) = InterfaceName::parse(name)?;
        let paths = self.paths.clone();
        self.storage
            .run("the network interfaces", move || {
                let known = !matches!(name.as_str(), "." | "..") && paths.sys("class/net").join(&name).is_dir();
                let interface = if known { read(&paths, &name, &addresses(&paths)?)? } else { None };
                interface.ok_or(HostError::Unknown { what: "network interface", name })
            })
            .await
    }
}

fn read_all(paths: &Paths) -> Result<NetworkInterfaces, HostError> {
    let folder = paths.sys("class/net");
    let entries = fs::read_dir(&folder).map_err(|source| HostError::read(&folder, source))?;
    let addresses = addresses(paths)?;
    let mut interfaces = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| HostError::read(&folder, source))?;
        // Beside the interfaces there may be files, such as `bonding_masters`.
        let is_interface = entry.path().is_dir();
        if let Some(name) = entry.file_name().to_str().filter(|_| is_interface) {
            interfaces.extend(read(paths, name, &addresses)?);
        }
    }
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(NetworkInterfaces { interfaces })
}

/// The interface's readings, none where it went away meanwhile.
fn read(paths: &Paths, name: &str, all: &[InterfaceAddress]) -> Result<Option<NetworkInterface>, HostError> {
    let folder = paths.sys("class/net").join(name);
    match read_folder(&folder, name, all) {
        Err(HostError::Read { source, .. }) if is_gone(&source) && !folder.is_dir() => Ok(None),
        other => other.map(Some),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn read_folder(folder: &Path, name: &str, all: &[InterfaceAddress]) -> Result<NetworkInterface, HostError> {
    let count = |counter: &str| number(&folder.join("statistics").join(counter));
    let index = folder.join("ifindex");
    let mac_address = read_word(&folder.join("address"))?;
    Ok(NetworkInterface {
        name: name.to_owned(),
        index: u32::try_from(number(&index)?).map_err(|_| malformed(&index, "not a number of an interface"))?,
        state: read_word(&folder.join("operstate"))?,
        mac_address: Some(mac_address).filter(|mac| mac.chars().any(|digit| !matches!(digit, '0' | ':'))),
        mtu_bytes: number(&folder.join("mtu"))?,
        // -1, or EINVAL, where there is no link or no such thing as a speed.
        speed_mbit_per_second: number(&folder.join("speed")).ok(),
        addresses: all.iter().filter(|address| address.interface_name == name).filter_map(with_prefix).collect(),
        rx_bytes: count("rx_bytes")?,
        rx_packets: count("rx_packets")?,
        rx_errors: count("rx_errors")?,
        rx_dropped: count("rx_dropped")?,
        tx_bytes: count("tx_bytes")?,
        tx_packets: count("tx_packets")?,
        tx_errors: count("tx_errors")?,
        tx_dropped: count("tx_dropped")?,
    })
}

fn number(path: &Path) -> Result<u64, HostError> {
    read_word(path)?.parse().map_err(|_| malformed(path, "not a number"))
}

impl Host {
    /// The addresses of this node that a caller could know it by: those of its interfaces, without what is of one link only.
    pub fn own_addresses(&self) -> Result<Vec<IpAddr>, HostError> {
        let all = addresses(&self.paths)?;
        let mut own: Vec<IpAddr> = all
            .iter()
            .filter_map(|entry| entry.address.as_ref())
            .filter_map(|address| ipv4(address).map(IpAddr::V4).or_else(|| ipv6(address).map(IpAddr::V6)))
            .filter(|address| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()))
            .collect();
        own.sort_unstable();
        own.dedup();
        Ok(own)
    }
}

/// The addresses of the agent's own network namespace; another tree's are not known.
fn addresses(paths: &Paths) -> Result<Vec<InterfaceAddress>, HostError> {
    if !paths.is_own() {
        return Ok(Vec::new());
    }
    let all = getifaddrs()
        .map_err(|errno| HostError::unavailable("the interfaces' addresses", format!("getifaddrs(3): {errno}")))?;
    Ok(all.collect())
}

fn with_prefix(entry: &InterfaceAddress) -> Option<String> {
    let (address, netmask) = (entry.address.as_ref()?, entry.netmask.as_ref()?);
    match (ipv4(address), ipv4(netmask)) {
        (Some(address), Some(netmask)) => Some(format!("{address}/{}", netmask.to_bits().leading_ones())),
        _ => Some(format!("{}/{}", ipv6(address)?, ipv6(netmask)?.to_bits().leading_ones())),
    }
}

fn ipv4(address: &SockaddrStorage) -> Option<Ipv4Addr> {
    Some(address.as_sockaddr_in()?.ip())
}

fn ipv6(address: &SockaddrStorage) -> Option<Ipv6Addr> {
    Some(address.as_sockaddr_in6()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Changes;
    use crate::host::fixture::{Tree, block_on};

    fn with_interface(tree: Tree, name: &str, index: &str, mac: &str, speed: &str) -> Tree {
        let folder = format!("sys/class/net/{name}");
        let counters = ["bytes", "packets", "errors", "dropped"];
        let names = counters.iter().flat_map(|counter| [format!("rx_{counter}"), format!("tx_{counter}")]);
        names
            .enumerate()
            .fold(tree, |tree, (at, counter)| {
                tree.with(&format!("{folder}/statistics/{counter}"), &format!("{}\n", at * 100))
            })
            .with(&format!("{folder}/ifindex"), index)
            .with(&format!("{folder}/operstate"), "up\n")
            .with(&format!("{folder}/address"), mac)
            .with(&format!("{folder}/mtu"), "1500\n")
            .with(&format!("{folder}/speed"), speed)
    }

    fn tree() -> Tree {
        let tree = Tree::new().with("sys/class/net/bonding_masters", "");
        let tree = with_interface(tree, "wlan0", "3\n", "02:00:00:00:00:01\n", "-1\n");
        with_interface(tree, "eth0", "2\n", "00:00:00:00:00:00\n", "1000\n")
    }

    #[test]
    fn interfaces_are_told_by_name_and_files_beside_them_ignored() {
        let interfaces = block_on(tree().host().network_interfaces()).unwrap().interfaces;
        let names: Vec<_> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
        assert_eq!(names, ["eth0", "wlan0"]);
    }

    #[test]
    fn a_speed_or_a_hardware_address_that_is_none_is_left_out() {
        let tree = tree();
        let eth0 = block_on(tree.host().network_interface("eth0")).unwrap();
        assert_eq!((eth0.speed_mbit_per_second, eth0.mac_address), (Some(1000), None));
        let wlan0 = block_on(tree.host().network_interface("wlan0")).unwrap();
        assert_eq!(wlan0.speed_mbit_per_second, None);
        assert_eq!(wlan0.mac_address.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!((wlan0.index, wlan0.mtu_bytes), (3, 1500));
        assert_eq!((wlan0.rx_bytes, wlan0.tx_bytes, wlan0.tx_dropped), (0, 100, 700));
    }

    #[test]
    fn a_malformed_name_is_invalid_and_one_that_the_node_lacks_unknown() {
        let tree = tree();
        for name in ["", "a/b", "a:b", "a b", "sixteencharacter", "ä"] {
            let refused = block_on(tree.host().network_interface(name)).unwrap_err();
            assert!(matches!(refused, HostError::Invalid { .. }), "{name:?}: {refused}");
        }
        for name in ["eth1", ".", "..", "bonding_masters"] {
            let refused = block_on(tree.host().network_interface(name)).unwrap_err();
            assert!(matches!(refused, HostError::Unknown { .. }), "{name:?}: {refused}");
        }
    }

    #[test]
    fn the_running_nodes_loopback_has_its_address() {
        let own = Host::new(Paths::new("/"), Changes::Refuse);
        let lo = block_on(own.network_interface("lo")).unwrap();
        assert!(lo.addresses.contains(&"127.0.0.1/8".to_owned()), "{:?}", lo.addresses);
    }
}
