//! Comma-separated values (RFC 4180), for spreadsheets.
//!
//! What callers wrote is in there, and spreadsheets run what looks like a formula. So a text that begins like one gets an apostrophe
//! before it. Where commas stand in numbers, spreadsheets separate at semicolons instead, whatever is quoted: there a text begins behind
//! each of them.

use std::fmt::Write as _;

use crate::audit::ServedEntry;
use crate::host::clock;

/// The names of the columns, as the first line.
pub(crate) const COLUMNS: &str = "id,timestamp,user,roles,method,path,operation_id,source_ip,response_code,duration_ms,seq,class,outcome,\
    permission,token_id,auth_method,trace_id,user_agent,forwarded_for,boot_id,monotonic_us,duration_us,clock_synced,count,\
    last_timestamp\r\n";

/// Writes the names of the columns.
pub(super) fn header(body: &mut Vec<u8>) {
    body.extend_from_slice(COLUMNS.as_bytes());
}

/// Writes an entry; what it does not have is empty.
pub(super) fn row(body: &mut Vec<u8>, entry: &ServedEntry<'_>) {
    let mut row = Row::new();
    row.plain(entry.id.encode(&mut [0; 36]));
    row.plain(clock::rfc3339_into(entry.timestamp, &mut [0; 24]));
    row.text(entry.user);
    row.text(&entry.roles.replace('\n', " "));
    row.text(entry.method);
    row.text(entry.path);
    row.plain(entry.operation_id);
    row.plain(entry.source_ip);
    row.plain(entry.response_code);
    row.plain(entry.duration_ms);
    row.plain(entry.seq.0);
    row.plain(entry.class.as_str());
    row.plain(entry.outcome.as_str());
    row.plain(entry.permission.unwrap_or_default());
    row.text(entry.token_id.unwrap_or_default());
    row.plain(entry.auth_method.unwrap_or_default());
    row.plain(entry.trace_id.as_deref().unwrap_or_default());
    row.text(entry.user_agent.unwrap_or_default());
    row.plain(entry.forwarded_for.map(|address| address.to_string()).unwrap_or_default());
    row.plain(entry.boot_id);
    row.plain(entry.monotonic_us);
    row.plain(entry.duration_us);
    row.plain(entry.clock_synced);
    row.plain(entry.count.map(|count| count.to_string()).unwrap_or_default());
    row.plain(entry.last_timestamp.map(clock::rfc3339).unwrap_or_default());
    row.end(body);
}

/// Values, each with a comma behind it.
pub(crate) struct Row(String);

impl Row {
    /// A row without values.
    pub(crate) fn new() -> Self {
        Self(String::with_capacity(512))
    }

    /// Writes the row as a line.
    pub(crate) fn end(mut self, body: &mut Vec<u8>) {
        self.0.pop();
        body.extend_from_slice(self.0.as_bytes());
        body.extend_from_slice(b"\r\n");
    }

    /// A value of the agent's own.
    pub(crate) fn plain(&mut self, value: impl std::fmt::Display) {
        write!(self.0, "{value},").expect("writing to a String does not fail");
    }

    /// A value of a caller.
    pub(crate) fn text(&mut self, text: &str) {
        let is_quoted = text.contains(['"', ',', '\r', '\n', ';', ' ', '\t']);
        let quote = if is_quoted { "\"" } else { "" };
        self.0.push_str(quote);
        for (index, part) in text.split(';').enumerate() {
            if index > 0 {
                self.0.push(';');
            }
            if is_formula(part) {
                self.0.push('\'');
            }
            self.0.push_str(&part.replace('"', "\"\""));
        }
        self.0.push_str(quote);
        self.0.push(',');
    }
}

/// Whether a spreadsheet would run it. One that separates at semicolons takes off quotes that stand at the beginning.
fn is_formula(text: &str) -> bool {
    text.trim_start_matches(['"', ' '])
        .starts_with(['=', '+', '-', '@', '\t', '\r', '\'', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_formula_is_a_text() {
        let mut row = Row::new();
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(\"http://x\",\"y\")", "a=1", "", "a,b", "'x"] {
            row.text(text);
        }
        let expected = "'=1+1,'+1,'-1,'@SUM(A1),\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\",a=1,,\"a,b\",''x,";
        assert_eq!(row.0, expected);
        let mut row = Row::new();
        for text in ["/a;=1+1;b", "Mozilla/5.0 (X11; Linux; +http://x)", "a;\"=1\"", " =1", "\"-1"] {
            row.text(text);
        }
        let expected =
            "\"/a;'=1+1;b\",\"Mozilla/5.0 (X11; Linux;' +http://x)\",\"a;'\"\"=1\"\"\",\"' =1\",\"'\"\"-1\",";
        assert_eq!(row.0, expected);
        // Control characters, and the signs of wide scripts, which some take for the narrow ones.
        let mut row = Row::new();
        for text in ["\t=1", "\r=1", "\u{ff1d}1", "\u{ff0b}1", "\u{ff0d}1", "\u{ff20}1"] {
            row.text(text);
        }
        let expected = "\"'\t=1\",\"'\r=1\",'\u{ff1d}1,'\u{ff0b}1,'\u{ff0d}1,'\u{ff20}1,";
        assert_eq!(row.0, expected);
    }

    #[test]
    fn what_separates_values_or_lines_is_quoted() {
        for text in ["a\"b", "a,b", "a\rb", "a\nb", "a;b", "a b", "a\tb"] {
            let mut row = Row::new();
            row.text(text);
            assert_eq!(row.0, format!("\"{}\",", text.replace('"', "\"\"")));
        }
    }
}
