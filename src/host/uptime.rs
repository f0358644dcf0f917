//! How long the node runs, from `proc_uptime(5)` and `proc_stat(5)`.

use schemars::JsonSchema;
use serde::Serialize;

use super::clock;
use super::file::{malformed, read_text};
use super::{Host, HostError};

/// How long the node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Uptime {
    /// Whole seconds since boot, time asleep included (`proc_uptime(5)`).
    pub uptime_seconds: u64,
    /// When the node booted, by today's wall clock: RFC 3339, UTC (`btime`, `proc_stat(5)`).
    pub boot_time: String,
    /// The UUID of this boot, as entries of the audit ring carry it (`random(4)`).
    pub boot_id: String,
}

impl Host {
    /// How long the node runs.
    pub fn uptime(&self) -> Result<Uptime, HostError> {
        let stat = self.paths.proc("stat");
        let boot_time = boot_seconds(&read_text(&stat)?)
            .and_then(|seconds| seconds.checked_mul(1000).map(clock::rfc3339))
            .ok_or_else(|| malformed(&stat, "no btime"))?;
        Ok(Uptime { uptime_seconds: self.uptime_seconds()?, boot_time, boot_id: clock::boot_id(&self.paths)? })
    }

    pub(super) fn uptime_seconds(&self) -> Result<u64, HostError> {
        let path = self.paths.proc("uptime");
        let text = read_text(&path)?;
        text.split('.')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .ok_or_else(|| malformed(&path, "not of the form that proc_uptime(5) gives"))
    }
}

fn boot_seconds(stat: &str) -> Option<i64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::Tree;

    #[test]
    fn uptime_boot_time_and_boot_id_are_read() {
        let tree = Tree::new()
            .with("proc/uptime", "93784.56 180000.10\n")
            .with("proc/stat", "cpu  1 2 3 4\nintr 5 6\nctxt 7\nbtime 1752000000\nprocesses 8\n")
            .with("proc/sys/kernel/random/boot_id", "4f7c0f2e-9b1d-4c3c-8e7a-2a8f8f0d6a11\n");
        let expected = Uptime {
            uptime_seconds: 93_784,
            boot_time: "2025-07-08T18:40:00.000Z".to_owned(),
            boot_id: "4f7c0f2e-9b1d-4c3c-8e7a-2a8f8f0d6a11".to_owned(),
        };
        assert_eq!(tree.host().uptime().unwrap(), expected);
    }

    #[test]
    fn a_file_that_is_missing_is_an_error_that_names_it() {
        let refused = Tree::new().host().uptime().unwrap_err();
        assert!(refused.to_string().ends_with("proc/stat"), "{refused}");
    }
}
