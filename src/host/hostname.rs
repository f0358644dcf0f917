//! The host name: read from the kernel, changed through systemd-hostnamed or, without systemd, directly.

use nix::errno::Errno;
use nix::unistd;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::bus::{Bus, Interface};
use super::file::{read_text_if_any, read_word, remove, replace_text};
use super::{Host, HostError, Paths};

const HOSTNAMED: Interface<'static> = Interface {
    what: "systemd-hostnamed",
    service: "org.freedesktop.hostname1",
    object: "/org/freedesktop/hostname1",
    name: "org.freedesktop.hostname1",
};

/// Longest host name that Linux takes: `HOST_NAME_MAX`, `sethostname(2)`.
const LENGTH_MAX: usize = 64;

/// Longest label of a host name (RFC 1123, section 2.1).
const LABEL_MAX: usize = 63;

/// The node's host name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostnameReading {
    /// The host name as the kernel has it (`gethostname(2)`).
    pub hostname: String,
}

/// A host name that a node can be given: RFC 1123 labels, joined by dots, of at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// The host name, or why it is none.
    pub fn parse(name: &str) -> Result<Self, HostError> {
        let reason = if name.is_empty() {
            "it must not be empty"
        } else if name.len() > LENGTH_MAX {
            "it is longer than 64 bytes, the most that Linux takes (sethostname(2))"
        } else if !name.split('.').all(is_label) {
            "it must be labels of 1 to 63 letters, digits and hyphens, joined by dots, none with a hyphen at its end (RFC 1123)"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(HostError::Invalid { what: "hostname", reason: reason.to_owned() })
    }

    /// The host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for Hostname {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hostname".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        const LABEL: &str = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
        json_schema!({
            "type": "string",
            "description": "RFC 1123 labels joined by dots; Linux takes at most 64 bytes.",
            "minLength": 1,
            "maxLength": LENGTH_MAX,
            "pattern": format!("^{LABEL}(\\.{LABEL})*$"),
        })
    }
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl Host {
    /// The host name. Reads no file on the running node.
    pub fn hostname(&self) -> Result<HostnameReading, HostError> {
        let hostname = if self.paths.is_own() {
            let name = unistd::gethostname()
                .map_err(|errno| HostError::unavailable("the host name", format!("gethostname(2): {errno}")))?;
            name.to_string_lossy().into_owned()
        } else {
            read_word(&self.paths.proc("sys/kernel/hostname"))?
        };
        Ok(HostnameReading { hostname })
    }

    /// Gives the node another host name, now and for later boots.
    pub async fn set_hostname(&self, name: &str) -> Result<HostnameReading, HostError> {
        let hostname = Hostname::parse(name)?;
        let change = self.begin_change().await?;
        if let Some(bus) = self.bus() {
            set_over_bus(&bus, &hostname).await?;
        } else {
            let (paths, hostname) = (self.paths.clone(), hostname.clone());
            self.storage
                .run("changing the host name", move || {
                    let _change = change;
                    set_directly(&paths, &hostname)
                })
                .await?;
        }
        Ok(HostnameReading { hostname: hostname.0 })
    }
}

/// `SetStaticHostname` also sets the kernel's host name, but for the name `localhost`, which yields to one from the network.
async fn set_over_bus(bus: &Bus<'_>, hostname: &Hostname) -> Result<(), HostError> {
    let name = hostname.as_str();
    bus.invoke(HOSTNAMED, "SetStaticHostname", &["sb", name, "false"]).await?;
    if bus.property::<String>(HOSTNAMED, "Hostname").await? != name {
        bus.invoke(HOSTNAMED, "SetHostname", &["sb", name, "false"]).await?;
    }
    Ok(())
}

/// Writes `/etc/hostname`, then tells the kernel; if the kernel refuses, the file gets its old content back.
fn set_directly(paths: &Paths, hostname: &Hostname) -> Result<(), HostError> {
    let file = paths.etc("hostname");
    let before = read_text_if_any(&file)?;
    replace_text(&file, &format!("{}\n", hostname.as_str()))?;
    if !paths.is_own() {
        return Ok(());
    }
    unistd::sethostname(hostname.as_str()).map_err(|errno| {
        let restored = before.map_or_else(|| remove(&file), |text| replace_text(&file, &text));
        refused(errno, restored)
    })
}

fn refused(errno: Errno, restored: Result<(), HostError>) -> HostError {
    let cause = if errno == Errno::EPERM {
        "the agent lacks CAP_SYS_ADMIN, and there is no systemd-hostnamed to ask".to_owned()
    } else {
        format!("sethostname(2): {errno}")
    };
    let file = restored.map_or_else(|_| "; /etc/hostname holds the new name and could not be restored", |()| "");
    HostError::unavailable("changing the host name", format!("{cause}{file}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::fixture::{Tree, block_on};

    #[test]
    fn a_host_name_is_rfc_1123_labels_within_64_bytes() {
        let label = "a".repeat(63);
        let good = [
            "a".to_owned(),
            "0".to_owned(),
            "node-7".to_owned(),
            "Node7.plant-2.example".to_owned(),
            "127.0.0.1".to_owned(),
            "xn--nde-8la".to_owned(),
            label.clone(),
            format!("{}.b", "a".repeat(62)),
        ];
        for name in good {
            assert!(Hostname::parse(&name).is_ok(), "{name:?} is a host name");
        }
        let bad = [
            String::new(),
            ".".to_owned(),
            "a.".to_owned(),
            ".a".to_owned(),
            "a..b".to_owned(),
            "-a".to_owned(),
            "a-".to_owned(),
            "a.-b".to_owned(),
            "a-.b".to_owned(),
            "a_b".to_owned(),
            "a b".to_owned(),
            "a\n".to_owned(),
            "a/b".to_owned(),
            "nöde".to_owned(),
            "a".repeat(64),
            format!("{label}.b"),
        ];
        for name in bad {
            assert!(Hostname::parse(&name).is_err(), "{name:?} is none");
        }
    }

    #[test]
    fn the_kernels_host_name_is_read() {
        let tree = Tree::new().with("proc/sys/kernel/hostname", "node-7\n");
        assert_eq!(tree.host().hostname().unwrap().hostname, "node-7");
    }

    #[test]
    fn the_running_node_answers_what_uname_says() {
        let own = Host::new(Paths::new("/"), crate::host::Changes::Refuse);
        let uname = nix::sys::utsname::uname().unwrap();
        assert_eq!(own.hostname().unwrap().hostname, uname.nodename().to_string_lossy());
    }

    #[test]
    fn a_change_below_another_root_writes_its_file_only() {
        let before = unistd::gethostname().unwrap();
        let tree = Tree::new().with("etc/hostname", "old\n");
        let changed = block_on(tree.host().set_hostname("node-8")).unwrap();
        assert_eq!(changed.hostname, "node-8");
        assert_eq!(fs::read_to_string(tree.paths().etc("hostname")).unwrap(), "node-8\n");
        assert_eq!(unistd::gethostname().unwrap(), before);
    }

    #[test]
    fn with_changes_switched_off_a_bad_name_is_still_invalid_and_a_good_one_changes_nothing() {
        let tree = Tree::new().with("etc/hostname", "old\n");
        let host = tree.unchangeable_host();
        let bad = block_on(host.set_hostname("-")).unwrap_err();
        assert!(matches!(bad, HostError::Invalid { .. }));
        let good = block_on(host.set_hostname("node-8")).unwrap_err();
        assert!(matches!(good, HostError::ChangesDisabled));
        assert_eq!(fs::read_to_string(tree.paths().etc("hostname")).unwrap(), "old\n");
    }

    #[test]
    fn a_node_without_a_folder_for_the_name_is_unavailable() {
        let refused = block_on(Tree::new().host().set_hostname("node-8")).unwrap_err();
        assert!(matches!(refused, HostError::Unavailable { .. }), "{refused}");
    }
}
