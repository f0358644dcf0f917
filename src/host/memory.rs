//! The node's memory, from `proc_meminfo(5)`.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::file::{malformed, read_text};
use super::{Host, HostError};

/// The node's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Memory {
    /// Usable memory, without what the kernel's own code takes (`MemTotal`, `proc_meminfo(5)`).
    pub total_bytes: u64,
    /// What new programs could get without swapping, as the kernel estimates it (`MemAvailable`).
    pub available_bytes: u64,
    /// Total without available.
    pub used_bytes: u64,
    /// What nothing uses at all (`MemFree`).
    pub free_bytes: u64,
    /// Buffers of block devices (`Buffers`).
    pub buffers_bytes: u64,
    /// File contents kept in memory (`Cached`).
    pub cached_bytes: u64,
    /// Shared memory and tmpfs files, also part of cached (`Shmem`).
    pub shared_bytes: u64,
    /// Kernel caches that can be given back (`SReclaimable`).
    pub reclaimable_bytes: u64,
    /// Data that waits to be written to storage (`Dirty`).
    pub dirty_bytes: u64,
    /// Swap space (`SwapTotal`); 0 where there is none.
    pub swap_total_bytes: u64,
    /// Swap space that nothing uses (`SwapFree`).
    pub swap_free_bytes: u64,
}

impl Host {
    /// The node's memory.
    pub fn memory(&self) -> Result<Memory, HostError> {
        let path = self.paths.proc("meminfo");
        parse(&read_text(&path)?).ok_or_else(|| malformed(&path, "no MemTotal, MemFree or MemAvailable"))
    }
}

fn parse(text: &str) -> Option<Memory> {
    let fields: HashMap<&str, u64> = text.lines().filter_map(field).collect();
    let or_none = |name| fields.get(name).copied().unwrap_or(0);
    let total_bytes = *fields.get("MemTotal")?;
    let available_bytes = *fields.get("MemAvailable")?;
    Some(Memory {
        total_bytes,
        available_bytes,
        used_bytes: total_bytes.saturating_sub(available_bytes),
        free_bytes: *fields.get("MemFree")?,
        buffers_bytes: or_none("Buffers"),
        cached_bytes: or_none("Cached"),
        shared_bytes: or_none("Shmem"),
        reclaimable_bytes: or_none("SReclaimable"),
        dirty_bytes: or_none("Dirty"),
        swap_total_bytes: or_none("SwapTotal"),
        swap_free_bytes: or_none("SwapFree"),
    })
}

/// `MemTotal:       16316412 kB`, in bytes. The file says kB and means 1024 bytes.
fn field(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.split_once(':')?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((name, kibibytes.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::Tree;

    const MEMINFO: &str = "\
MemTotal:         982904 kB
MemFree:          310264 kB
MemAvailable:     702516 kB
Buffers:           18204 kB
Cached:           404108 kB
SwapCached:            0 kB
Dirty:               116 kB
Shmem:              5012 kB
SReclaimable:      31820 kB
SwapTotal:             0 kB
SwapFree:              0 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
";

    #[test]
    fn kibibytes_become_bytes() {
        let tree = Tree::new().with("proc/meminfo", MEMINFO);
        let memory = tree.host().memory().unwrap();
        assert_eq!(memory.total_bytes, 982_904 * 1024);
        assert_eq!(memory.available_bytes, 702_516 * 1024);
        assert_eq!(memory.used_bytes, (982_904 - 702_516) * 1024);
        assert_eq!((memory.dirty_bytes, memory.swap_total_bytes), (116 * 1024, 0));
    }

    #[test]
    fn a_file_without_the_total_is_an_error() {
        let tree = Tree::new().with("proc/meminfo", "MemFree: 1 kB\n");
        assert!(matches!(tree.host().memory(), Err(HostError::Read { .. })));
    }
}
