//! The node's clocks.

use nix::time::{ClockId, clock_gettime};

/// Wall clock, milliseconds since 1970 (UTC).
pub fn wall_clock_ms() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| t.tv_sec() * 1_000 + t.tv_nsec() / 1_000_000)
}

/// Microseconds since the boot, suspend included.
pub fn monotonic_us() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1_000)
}

/// Whether the kernel's clock is synchronised.
pub fn is_synchronised() -> bool {
    false
}
