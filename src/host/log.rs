//! The node's journal, read through `journalctl(1)`: the last entries, bounded in number, bytes and time.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::command::{Commands, Ended, Limits, Output};
use super::service::{UNIT_PATTERN, is_unit_name};
use super::{Host, HostError, clock};
use crate::decimal;

/// What journalctl may take; beyond it the older entries are left out.
const LIMITS: Limits = Limits { deadline: Duration::from_secs(5), output_bytes: 4 << 20 };

/// Bytes of a message that are served.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Longest unit name; journalctl adds `.service` where there is no suffix.
const UNIT_MAX: usize = 255;

const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,_COMM,_PID,_BOOT_ID";

/// Which entries to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// How many entries, counted from the newest.
    #[serde(default)]
    pub lines: Lines,
    /// Only entries of this unit, such as `ssh` or `ssh.service`.
    #[serde(default)]
    #[schemars(with = "UnitName")]
    pub unit: Option<String>,
}

/// A number of entries: 1 to 1000, 100 where it is not given. In decimal digits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lines(u16);

impl Lines {
    /// The most that can be asked for.
    pub const ALL: Self = Self(Self::MAX);
    const MAX: u16 = 1000;

    fn parse(text: &str) -> Option<Self> {
        decimal::parse(text).filter(|number| (1..=Self::MAX).contains(number)).map(Self)
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Lines;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer from 1 to 1000 in decimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Lines, E> {
                Lines::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

impl JsonSchema for Lines {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Lines".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": Self::MAX })
    }
}

/// A well-formed name of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitName(String);

impl UnitName {
    fn parse(name: String) -> Result<Self, HostError> {
        if is_unit_name(&name) {
            return Ok(Self(name));
        }
        Err(HostError::Invalid {
            what: "unit",
            reason: "it must be 1 to 255 letters, digits and :-_.\\@, and not begin with @ (systemd.unit(5))"
                .to_owned(),
        })
    }
}

impl JsonSchema for UnitName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UnitName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": UNIT_MAX, "pattern": UNIT_PATTERN })
    }
}

/// The end of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Log {
    /// Newest first.
    pub entries: Vec<LogEntry>,
    /// Whether older entries that were asked for are left out, because the answer reached its limit of bytes or time.
    pub truncated: bool,
}

/// One entry of the journal (`systemd.journal-fields(7)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogEntry {
    /// When the journal received it: RFC 3339, UTC.
    pub timestamp: String,
    /// Its urgency, from 0 (emergency) to 7 (debug) (`syslog(3)`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The unit that its sender belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What its sender calls itself, else the name of its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The process that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The boot that it was sent in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The message, cut to 4096 bytes; bytes that are no UTF-8 are replaced by U+FFFD.
    pub message: String,
    /// Bytes of the whole message; present where it is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_bytes: Option<u64>,
}

impl Host {
    /// The end of the journal.
    pub async fn log(&self, query: LogQuery) -> Result<Log, HostError> {
        let unit = query.unit.map(UnitName::parse).transpose()?;
        if !self.paths.is_own() || !self.paths.run("systemd/system").is_dir() || !Commands::has("journalctl") {
            return Err(HostError::unavailable("the journal", "systemd does not run this node"));
        }
        let lines = format!("--lines={}", query.lines.0);
        let unit = unit.map(|UnitName(name)| format!("--unit={name}"));
        // `--all` lets long and binary messages through; they are cut here.
        let mut arguments = vec!["--output=json", "--all", "--reverse", "--no-pager", FIELDS, lines.as_str()];
        arguments.extend(unit.as_deref());
        parse(&self.commands.run("journalctl", &arguments, LIMITS).await?)
    }
}

fn parse(output: &Output) -> Result<Log, HostError> {
    let truncated = match output.ended {
        Ended::Exited(status) if status.success() => false,
        Ended::Exited(_) => return Err(refused(&output.stderr)),
        Ended::OutputFull | Ended::DeadlinePassed => true,
    };
    if output.stdout.is_empty() && (truncated || output.stderr.contains("No journal files")) {
        return Err(refused(&output.stderr));
    }
    let whole = if truncated { whole_lines(&output.stdout) } else { &output.stdout };
    let entries = whole
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| entry(line).ok_or_else(|| HostError::unavailable("the journal", "journalctl wrote no JSON entry")))
        .collect::<Result<_, _>>()?;
    Ok(Log { entries, truncated })
}

/// The last line may have been cut; the lines before it are whole.
fn whole_lines(output: &[u8]) -> &[u8] {
    let end = output.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    &output[..end]
}

fn refused(stderr: &str) -> HostError {
    let reason = if stderr.contains("insufficient permissions") {
        "the agent may not read it: its user is not in the group systemd-journal"
    } else if stderr.contains("No journal files") {
        "this node keeps no journal files"
    } else {
        "journalctl failed or did not answer in time"
    };
    HostError::unavailable("the journal", reason)
}

fn entry(line: &[u8]) -> Option<LogEntry> {
    let fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let received_us: i64 = text(&fields, "__REALTIME_TIMESTAMP")?.parse().ok()?;
    let whole = text(&fields, "MESSAGE").unwrap_or_default();
    let message = cut(&whole);
    Some(LogEntry {
        timestamp: clock::rfc3339(received_us / 1000),
        priority: text(&fields, "PRIORITY").and_then(|priority| priority.parse().ok()),
        unit: text(&fields, "_SYSTEMD_UNIT"),
        identifier: text(&fields, "SYSLOG_IDENTIFIER").or_else(|| text(&fields, "_COMM")),
        pid: text(&fields, "_PID").and_then(|pid| pid.parse().ok()),
        boot_id: text(&fields, "_BOOT_ID"),
        message_bytes: (message.len() < whole.len()).then_some(whole.len() as u64),
        message: message.to_owned(),
    })
}

/// A field as text. journalctl writes one that is not text as an array of its bytes, and one that occurs several times
/// as an array of its values, of which the first is taken.
fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fn of(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Array(items) => items
                .iter()
                .map(byte)
                .collect::<Option<Vec<u8>>>()
                .map_or_else(|| items.first().and_then(of), |bytes| Some(String::from_utf8_lossy(&bytes).into_owned())),
            _ => None,
        }
    }
    fn byte(value: &Value) -> Option<u8> {
        value.as_u64()?.try_into().ok()
    }
    of(fields.get(name)?)
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use crate::host::fixture::{Tree, block_on};

    const ENTRY: &str = r#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1752000000123456","_BOOT_ID":"4f7c","PRIORITY":"6","_SYSTEMD_UNIT":"ssh.service","SYSLOG_IDENTIFIER":"sshd","_PID":"712","MESSAGE":"Server listening"}"#;

    fn output(stdout: &str, stderr: &str, ended: Ended) -> Output {
        Output { stdout: stdout.as_bytes().to_vec(), stderr: stderr.to_owned(), ended }
    }

    fn exited(code: i32) -> Ended {
        Ended::Exited(ExitStatus::from_raw(code << 8))
    }

    #[test]
    fn an_entry_becomes_flat_and_typed() {
        let log = parse(&output(&format!("{ENTRY}\n"), "", exited(0))).unwrap();
        let expected = LogEntry {
            timestamp: "2025-07-08T18:40:00.123Z".to_owned(),
            priority: Some(6),
            unit: Some("ssh.service".to_owned()),
            identifier: Some("sshd".to_owned()),
            pid: Some(712),
            boot_id: Some("4f7c".to_owned()),
            message: "Server listening".to_owned(),
            message_bytes: None,
        };
        assert_eq!((log.entries, log.truncated), (vec![expected], false));
    }

    #[test]
    fn a_message_of_bytes_and_a_repeated_field_are_text() {
        let line = br#"{"__REALTIME_TIMESTAMP":"0","MESSAGE":[104,105,255],"_COMM":["a","b"]}"#;
        let entry = entry(line).unwrap();
        assert_eq!((entry.message.as_str(), entry.identifier.as_deref()), ("hi\u{fffd}", Some("a")));
    }

    #[test]
    fn a_long_message_is_cut_between_characters_and_tells_its_length() {
        let message = format!("a{}", "ö".repeat(4096));
        let line = format!(r#"{{"__REALTIME_TIMESTAMP":"0","MESSAGE":"{message}"}}"#);
        let entry = entry(line.as_bytes()).unwrap();
        assert_eq!((entry.message.len(), entry.message_bytes), (4095, Some(8193)));
    }

    #[test]
    fn an_answer_that_reached_a_limit_keeps_its_whole_lines_and_says_so() {
        let log = parse(&output(&format!("{ENTRY}\n{{\"__REAL"), "", Ended::OutputFull)).unwrap();
        assert_eq!((log.entries.len(), log.truncated), (1, true));
    }

    #[test]
    fn a_node_without_journal_files_says_so() {
        for ended in [exited(0), exited(1)] {
            let refused = parse(&output("", "No journal files were found.\n", ended)).unwrap_err();
            assert!(refused.to_string().ends_with("keeps no journal files"), "{refused}");
        }
        let empty = parse(&output("", "-- No entries --\n", exited(0))).unwrap();
        assert_eq!(empty.entries, []);
    }

    #[test]
    fn an_agent_outside_the_journals_group_is_told_what_is_missing() {
        let stderr = "No journal files were opened due to insufficient permissions.\n";
        let refused = parse(&output("", stderr, exited(1))).unwrap_err();
        assert!(refused.to_string().contains("group systemd-journal"), "{refused}");
    }

    #[test]
    fn a_number_of_lines_is_decimal_digits_within_bounds() {
        for (text, number) in [("1", 1), ("1000", 1000), ("0007", 7)] {
            assert_eq!(Lines::parse(text), Some(Lines(number)), "{text:?}");
        }
        for text in ["", "0", "1001", "+5", "-1", " 5", "5.0", "1e2", "٣", "65536", "99999999999999999999"] {
            assert_eq!(Lines::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_unit_is_invalid_before_the_journal_is_looked_for() {
        let host = Tree::new().host();
        let of = |unit: &str| LogQuery { unit: Some(unit.to_owned()), ..LogQuery::default() };
        for unit in ["", "a b", "*", "@x"] {
            assert!(matches!(block_on(host.log(of(unit))), Err(HostError::Invalid { .. })), "{unit:?}");
        }
        assert!(matches!(block_on(host.log(of("ssh"))), Err(HostError::Unavailable { .. })));
    }
}
