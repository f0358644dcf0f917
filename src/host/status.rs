//! The node at a glance: the readings that a fleet's overview shows.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Host, HostError, clock, os};

/// The node at a glance. Each value is the one that its own endpoint gives.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    /// The host name as the kernel has it.
    pub hostname: String,
    /// The operating system's name for people (`PRETTY_NAME`, `os-release(5)`).
    pub os: String,
    /// Release of the running kernel (`uname -r`).
    pub kernel_release: String,
    /// Architecture of the running kernel (`uname -m`).
    pub architecture: String,
    /// The wall clock: RFC 3339, UTC.
    pub time: String,
    /// Whether the kernel holds the wall clock for synchronised (`adjtimex(2)`).
    pub clock_synced: bool,
    /// Whole seconds since boot (`proc_uptime(5)`).
    pub uptime_seconds: u64,
    /// The UUID of this boot (`random(4)`).
    pub boot_id: String,
    /// Tasks that run or wait, averaged over 1 minute (`proc_loadavg(5)`).
    pub load_1m: f64,
    /// Usable memory (`MemTotal`, `proc_meminfo(5)`).
    pub memory_total_bytes: u64,
    /// What new programs could get without swapping (`MemAvailable`).
    pub memory_available_bytes: u64,
}

impl Host {
    /// The node at a glance.
    pub async fn status(&self) -> Result<Status, HostError> {
        let host = self.clone();
        self.storage.run("the node's status", move || host.read_status()).await
    }

    fn read_status(&self) -> Result<Status, HostError> {
        let os = os::read(&self.paths)?;
        let memory = self.memory()?;
        Ok(Status {
            hostname: self.hostname()?.hostname,
            os: os.pretty_name,
            kernel_release: os.kernel_release,
            architecture: os.architecture,
            time: clock::rfc3339(clock::wall_clock_ms()),
            clock_synced: clock::is_synchronised(),
            uptime_seconds: self.uptime_seconds()?,
            boot_id: clock::boot_id(&self.paths)?,
            load_1m: self.load()?.load_1m,
            memory_total_bytes: memory.total_bytes,
            memory_available_bytes: memory.available_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::block_on;
    use crate::host::{Changes, Paths};

    #[test]
    fn the_running_node_has_a_status() {
        let own = Host::new(Paths::new("/"), Changes::Refuse);
        let status = block_on(own.status()).unwrap();
        assert!(status.memory_available_bytes <= status.memory_total_bytes);
        assert_eq!(status.hostname, own.hostname().unwrap().hostname);
    }
}
