//! The log's level and form.

use std::io::Write as _;

use env_logger::Builder;
use log::{Level, LevelFilter};

use crate::config::LogLevel;

/// Sends the log to standard error: for the journal with its priorities, else with times.
pub(super) fn start(level: LogLevel) {
    let mut builder = Builder::new();
    builder.filter_level(filter(level));
    // What peers do wrong on a connection is for the ring, not for the journal, which they could flood with it.
    builder.filter_module("actix_http", LevelFilter::Off).filter_module("actix_server", LevelFilter::Warn);
    builder.parse_default_env();
    // systemd sets it where standard error is connected to the journal (systemd.exec(5)), which adds times by itself.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.format(|line, record| {
            writeln!(line, "<{}>{}: {}", priority(record.level()), record.target(), record.args())
        });
    }
    // Only a second logger in the process is an error, and then there is one already.
    let _ = builder.try_init();
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
