//! What time the node believes it is.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Host, HostError, clock};

/// What time the node believes it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Time {
    /// The wall clock: RFC 3339, UTC.
    pub time: String,
    /// The node's time zone, such as `Europe/Berlin` (`localtime(5)`).
    pub timezone: String,
    /// Whether the kernel holds the wall clock for synchronised (`STA_UNSYNC`, `adjtimex(2)`).
    pub clock_synced: bool,
    /// Milliseconds since boot, time asleep included (`CLOCK_BOOTTIME`, `clock_gettime(2)`).
    pub monotonic_ms: i64,
}

impl Host {
    /// What time the node believes it is.
    pub async fn time(&self) -> Result<Time, HostError> {
        let timezone = self.timezone().await?.timezone;
        Ok(Time {
            time: clock::rfc3339(clock::wall_clock_ms()),
            timezone,
            clock_synced: clock::is_synchronised(),
            monotonic_ms: clock::monotonic_us() / 1000,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::host::fixture::{Tree, block_on};

    #[test]
    fn the_time_is_utc_whatever_the_zone() {
        let tree = Tree::new().with_link("etc/localtime", "/usr/share/zoneinfo/Asia/Tokyo");
        let time = block_on(tree.host().time()).unwrap();
        assert_eq!(time.timezone, "Asia/Tokyo");
        assert!(time.time.ends_with('Z'), "{}", time.time);
    }
}
