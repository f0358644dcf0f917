//! The node's clocks: what time it is, how long the node runs, and whether the time can be believed.
//!
//! Free functions, because the audit writer stamps its entries with them too. Nothing here touches storage.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

use super::file::read_word;
use super::{HostError, Paths};

/// Wall clock: milliseconds since 1970-01-01T00:00:00Z, negative before. It may jump in either direction.
pub fn wall_clock_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// Microseconds since boot, time asleep included (`CLOCK_BOOTTIME`, `clock_gettime(2)`). Never goes back within a boot.
pub fn monotonic_us() -> i64 {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME is in every Linux since 2.6.39");
    i64::try_from(Duration::from(since_boot).as_micros()).unwrap_or(i64::MAX)
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// As [`wall_clock_ms`] has it.
    pub wall_clock_ms: i64,
    /// As [`monotonic_us`] has it.
    pub monotonic_us: i64,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { wall_clock_ms: wall_clock_ms(), monotonic_us: monotonic_us() }
    }

    /// Whole seconds since 1970.
    pub const fn wall_clock_s(self) -> i64 {
        self.wall_clock_ms.div_euclid(1_000)
    }
}

/// Whether the kernel holds the wall clock for synchronised: `STA_UNSYNC` of `adjtimex(2)` is clear.
///
/// False where the kernel does not say, such as under `ProtectClock=yes`, whose filter forbids even this read.
#[expect(unsafe_code, reason = "nix does not wrap adjtimex(2)")]
pub fn is_synchronised() -> bool {
    // SAFETY: `timex` is a C struct of integers only, for which all bits zero is a value. With `modes` zero adjtimex(2)
    // changes nothing; it writes only to the struct behind the pointer, which is ours, live, and of the C library's size.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    state != -1 && timex.status & libc::STA_UNSYNC == 0
}

/// The same at a moment, as the kernel said within the last 100 ms: who stamps every call would ask too often.
///
/// It is asked again at once where the wall clock was set, because what it said holds for the clock before.
pub fn is_synchronised_at(Moment { wall_clock_ms, monotonic_us }: Moment) -> bool {
    thread_local! {
        /// Each thread's own, so that none waits for another.
        static SAID: Cell<Option<Said>> = const { Cell::new(None) };
    }
    let held = SAID.get().filter(|said| said.holds_at(wall_clock_ms, monotonic_us));
    let said = held.unwrap_or_else(|| Said { is_synchronised: is_synchronised(), wall_clock_ms, monotonic_us });
    SAID.set(Some(said));
    said.is_synchronised
}

/// What the kernel said of the wall clock, and when.
#[derive(Clone, Copy, Debug)]
struct Said {
    is_synchronised: bool,
    wall_clock_ms: i64,
    monotonic_us: i64,
}

impl Said {
    const HOLDS_US: i64 = 100_000;
    /// The clocks are read one after the other, and the wall clock is steered by 0.05 % at most.
    const APART_MS: i64 = 2;

    const fn holds_at(self, wall_clock_ms: i64, monotonic_us: i64) -> bool {
        let passed_us = monotonic_us.saturating_sub(self.monotonic_us);
        let wall_passed_ms = wall_clock_ms.saturating_sub(self.wall_clock_ms);
        let apart_ms = wall_passed_ms.saturating_sub(passed_us / 1_000);
        passed_us >= 0 && passed_us < Self::HOLDS_US && apart_ms.unsigned_abs() <= Self::APART_MS.unsigned_abs()
    }
}

/// The UUID that the kernel made for this boot (`random(4)`).
pub fn boot_id(paths: &Paths) -> Result<String, HostError> {
    read_word(&paths.proc("sys/kernel/random/boot_id"))
}

/// A time as served: RFC 3339 in UTC, always with milliseconds. A time outside the years 0 to 9999 is shown as the nearest in
/// them: a clock that has gone mad stops nothing.
pub fn rfc3339(unix_ms: i64) -> String {
    rfc3339_into(unix_ms, &mut [0; RFC3339_BYTES]).to_owned()
}

/// Bytes of a time as served.
pub const RFC3339_BYTES: usize = 24;

/// The same without allocating.
pub fn rfc3339_into(unix_ms: i64, buffer: &mut [u8; RFC3339_BYTES]) -> &str {
    const YEAR_0_MS: i64 = -62_167_219_200_000;
    const YEAR_9999_END_MS: i64 = 253_402_300_799_999;
    let unix_ms = unix_ms.clamp(YEAR_0_MS, YEAR_9999_END_MS);
    let (seconds, milli) = (unix_ms.div_euclid(1_000), unix_ms.rem_euclid(1_000));
    let at = OffsetDateTime::from_unix_timestamp(seconds).expect("the clamp keeps it within the years of time");
    let ((year, month, day), (hour, minute, second)) = (at.to_calendar_date(), at.to_hms());
    // By hand, as a page has one for each of its entries: formatting takes ten times the instructions.
    let fields = [
        (year.unsigned_abs(), 4, b'-'),
        (u8::from(month).into(), 2, b'-'),
        (day.into(), 2, b'T'),
        (hour.into(), 2, b':'),
        (minute.into(), 2, b':'),
        (second.into(), 2, b'.'),
        (u32::try_from(milli).unwrap_or_default(), 3, b'Z'),
    ];
    let mut rest = &mut buffer[..];
    for (mut number, digits, end) in fields {
        let (field, others) = rest.split_at_mut(digits + 1);
        field[digits] = end;
        for digit in field[..digits].iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
        rest = others;
    }
    std::str::from_utf8(buffer).expect("RFC 3339 is ASCII")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::Tree;

    #[test]
    fn times_are_served_in_utc_with_their_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_752_000_000_123), "2025-07-08T18:40:00.123Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(i64::MIN), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let before = monotonic_us();
        assert!(before > 0 && monotonic_us() >= before);
    }

    #[test]
    fn the_kernel_answers_whether_the_clock_is_synchronised() {
        assert_eq!(is_synchronised(), is_synchronised());
    }

    #[test]
    fn what_the_kernel_said_of_the_clock_holds_for_a_moment_and_for_that_clock_only() {
        let said = Said { is_synchronised: true, wall_clock_ms: 1_000, monotonic_us: 7_000_000 };
        assert!(said.holds_at(1_000, 7_000_000) && said.holds_at(1_099, 7_099_999) && said.holds_at(1_052, 7_050_000));
        assert!(!said.holds_at(1_100, 7_100_000), "too old");
        assert!(!said.holds_at(999, 6_999_000), "another boot's");
        for wall_clock_ms in [i64::MIN, 0, 1_047, 1_053, 86_400_000, i64::MAX] {
            assert!(!said.holds_at(wall_clock_ms, 7_050_000), "the clock was set: {wall_clock_ms}");
        }
    }

    #[test]
    fn the_boot_id_is_read_without_its_line_end() {
        let tree = Tree::new().with("proc/sys/kernel/random/boot_id", "4f7c0f2e-9b1d-4c3c-8e7a-2a8f8f0d6a11\n");
        let read = boot_id(&tree.paths()).unwrap();
        assert_eq!(read, "4f7c0f2e-9b1d-4c3c-8e7a-2a8f8f0d6a11");
    }
}
