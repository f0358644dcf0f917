//! Rebooting the node and shutting it down: through systemd-logind or, without systemd, by `reboot(2)`.

use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd;
use schemars::JsonSchema;
use serde::Serialize;

use super::bus::Interface;
use super::file::{malformed, read_text};
use super::storage::Storage;
use super::{Host, HostError};

const LOGIND: Interface<'static> = Interface {
    what: "systemd-logind",
    service: "org.freedesktop.login1",
    object: "/org/freedesktop/login1",
    name: "org.freedesktop.login1.Manager",
};

/// Time for the answer and its audit entry to leave before the node goes down.
const GRACE: Duration = Duration::from_secs(2);

/// Time for storage to take what is not yet written; a hung file system must not keep the node up.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);

/// Bit of `CAP_SYS_BOOT` in a set of capabilities (`capabilities(7)`).
const CAP_SYS_BOOT: u32 = 22;

/// What the node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PowerAction {
    /// It starts again.
    Reboot,
    /// It powers off.
    Shutdown,
}

/// The node is about to go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PowerAccepted {
    /// What the node does.
    pub action: PowerAction,
    /// Always `accepted`: the node goes down shortly after this answer.
    pub status: &'static str,
}

impl Host {
    /// Takes the node down. Returns before it goes.
    pub async fn power(&self, action: PowerAction) -> Result<PowerAccepted, HostError> {
        self.permit_change()?;
        if !self.paths.is_own() {
            return Err(HostError::unavailable("power", "this agent manages a file tree, not a running node"));
        }
        if let Some(bus) = self.bus() {
            bus.invoke(LOGIND, action.method(), &["b", "false"]).await?;
        } else {
            self.permit_reboot()?;
            tokio::spawn(go_down(action, self.storage.clone()));
        }
        Ok(PowerAccepted { action, status: "accepted" })
    }

    /// Whether the agent may call `reboot(2)`: the call itself comes after the answer.
    fn permit_reboot(&self) -> Result<(), HostError> {
        let path = self.paths.proc("self/status");
        let capabilities = effective(&read_text(&path)?).ok_or_else(|| malformed(&path, "no CapEff"))?;
        if capabilities & (1 << CAP_SYS_BOOT) == 0 {
            return Err(HostError::unavailable(
                "power",
                "the agent lacks CAP_SYS_BOOT, and there is no systemd-logind to ask",
            ));
        }
        Ok(())
    }
}

impl PowerAction {
    const fn method(self) -> &'static str {
        match self {
            Self::Reboot => "Reboot",
            Self::Shutdown => "PowerOff",
        }
    }

    const fn mode(self) -> RebootMode {
        match self {
            Self::Reboot => RebootMode::RB_AUTOBOOT,
            Self::Shutdown => RebootMode::RB_POWER_OFF,
        }
    }
}

async fn go_down(action: PowerAction, storage: Storage) {
    tokio::time::sleep(GRACE).await;
    // Past the deadline the node goes down with data unwritten: its caller asked for that sooner than for no reboot.
    let synced = async {
        let slot = storage.slot().await;
        tokio::task::spawn_blocking(move || {
            let _slot = slot;
            unistd::sync();
        })
        .await
    };
    let _ = tokio::time::timeout(SYNC_DEADLINE, synced).await;
    // It returns only where it fails.
    let Err(errno) = reboot(action.mode());
    ::log::error!("the node does not go down: reboot(2): {errno}");
}

/// `CapEff` of `proc_pid_status(5)`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{Tree, block_on};

    #[test]
    fn another_tree_has_no_power_switch() {
        let refused = block_on(Tree::new().host().power(PowerAction::Reboot)).unwrap_err();
        assert!(matches!(refused, HostError::Unavailable { .. }), "{refused}");
    }

    #[test]
    fn with_changes_switched_off_the_node_stays_up() {
        let refused = block_on(Tree::new().unchangeable_host().power(PowerAction::Shutdown)).unwrap_err();
        assert!(matches!(refused, HostError::ChangesDisabled), "{refused}");
    }

    #[test]
    fn without_the_capability_the_call_is_refused_before_it_is_accepted() {
        let without = Tree::new().with("proc/self/status", "Name:\tnodeaudit\nCapEff:\t0000000000000000\n");
        assert!(matches!(without.host().permit_reboot(), Err(HostError::Unavailable { .. })));
        let with = Tree::new().with("proc/self/status", "CapEff:\t0000000000400000\n");
        assert!(with.host().permit_reboot().is_ok());
    }
}
