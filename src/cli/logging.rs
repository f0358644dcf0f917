//! The log's level and form.

use std::io::{self, Write as _};

use env_logger::Builder;
use log::{Level, LevelFilter};

use crate::config::LogLevel;
use crate::host::clock;

/// Sends the log to standard error: for the journal with its priorities, else with times.
pub(super) fn start(level: LogLevel) {
    let mut builder = Builder::new();
    builder.filter_level(filter(level));
    // What peers do wrong on a connection is for the ring, not for the journal, which they could flood with it.
    builder.filter_module("actix_http", LevelFilter::Off).filter_module("actix_server", LevelFilter::Warn);
    builder.parse_default_env();
    if is_journal() {
        builder.format(|line, record| {
            writeln!(line, "<{}>{}: {}", priority(record.level()), record.target(), record.args())
        });
    } else {
        builder.format(|line, record| {
            let now = clock::rfc3339(clock::wall_clock_ms());
            writeln!(line, "[{now} {:<5} {}] {}", record.level(), record.target(), record.args())
        });
    }
    // Only a second logger in the process is an error, and then there is one already.
    let _ = builder.try_init();
}

/// Whether standard error is the journal, which adds times by itself: systemd says which stream it connected (systemd.exec(5)), and what
/// is started from there may have been given another one.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let own = nix::sys::stat::fstat(io::stderr());
    own.is_ok_and(|own| stream == format!("{}:{}", own.st_dev, own.st_ino))
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// sd-daemon(3)
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
