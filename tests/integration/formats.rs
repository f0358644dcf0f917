//! Exports in the formats that others' tools read, some of them with the real tool.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Agent, Connection, Request, Response, can_isolate};

const JOURNAL_REMOTE: &str = "/lib/systemd/systemd-journal-remote";
const JOURNALCTL: &str = "/usr/bin/journalctl";

fn export(agent: &Agent, query: &str, accept: &str) -> Response {
    let path = format!("/audit/export{query}");
    let response = agent.call(&Request::get(&path).header("Accept", accept).bearer(&agent.token(&["auditor"])));
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// Each value of a line that has no line break in one (RFC 4180).
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(character),
        }
    }
    fields.push(field);
    fields
}

#[test]
fn a_table_has_what_an_object_has_and_no_formula() {
    let agent = Agent::start();
    let evil = ["=HYPERLINK(\"http://x\",\"a, b\")", "+1", "-1", "@SUM(A1)", "plain; text", "a\u{202e}b"];
    for agent_name in evil {
        let admin = agent.token(&["admin", "read"]);
        agent.call(&Request::get("/node/hostname?,=1").header("User-Agent", agent_name).bearer(&admin));
    }
    let table = export(&agent, "", "text/csv, application/json;q=0.5");
    assert!(table.header("Content-Type").unwrap().starts_with("text/csv"), "{table:?}");
    let lines: Vec<_> = table.text().strip_suffix("\r\n").unwrap().split("\r\n").collect();
    assert_eq!(lines.len(), 1 + evil.len());
    let names = fields(lines[0]);
    let objects = export(&agent, "?format=json&path=/node/hostname", "*/*").json();
    for (line, object) in lines[1..].iter().zip(objects["items"].as_array().unwrap()) {
        let values = fields(line);
        assert_eq!(values.len(), names.len(), "{line}");
        for (name, value) in names.iter().zip(&values) {
            let expected = match &object[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(roles) => roles.iter().map(|role| role.as_str().unwrap()).collect::<Vec<_>>().join(" "),
                other => other.to_string(),
            };
            assert_eq!(value.strip_prefix('\'').unwrap_or(value), expected, "{name}");
            assert!(!value.starts_with(['=', '+', '-', '@']), "{name} is a formula: {value}");
        }
        let told: Vec<_> = object.as_object().unwrap().keys().filter(|key| !names.contains(key)).collect();
        assert!(told.is_empty(), "no column for {told:?}");
    }
}

#[test]
fn the_journal_of_systemd_takes_every_entry_and_finds_it_by_our_fields() {
    if !can_isolate(&[JOURNAL_REMOTE, JOURNALCTL]) {
        return;
    }
    let agent = Agent::start();
    let mut connection = Connection::open(agent.address());
    let reader = agent.token(&["read", "admin"]);
    for number in 0..50 {
        let request = Request::get("/node/hostname").header("User-Agent", format!("caller \"{number}\" \u{202e}=1"));
        connection.call(&if number % 5 == 0 { request } else { request.bearer(&reader) });
    }
    let body = export(&agent, "", "application/vnd.fdo.journal").body;
    let file = agent.node().folder().join("remote.journal");
    let mut remote = Command::new(JOURNAL_REMOTE)
        .arg(format!("--output={}", file.display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    remote.stdin.take().unwrap().write_all(&body).unwrap();
    assert!(remote.wait().unwrap().success());

    let journal = |fields: &[&str]| -> Vec<Value> {
        let found =
            Command::new(JOURNALCTL).arg("--file").arg(&file).args(["-o", "json", "--no-pager"]).args(fields).output();
        let found = found.unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let lines = String::from_utf8(found.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = journal(&["SYSLOG_IDENTIFIER=nodeaudit"]);
    assert_eq!(all.len(), 50);
    assert_eq!(journal(&["NODEAUDIT_RESPONSE_CODE=401", "NODEAUDIT_CLASS=denied"]).len(), 10);
    assert_eq!(journal(&["NODEAUDIT_ROLE=read", "NODEAUDIT_OPERATION_ID=GetNodeHostname"]).len(), 40);
    assert_eq!(journal(&["-p", "4..4"]).len(), 10);
    let entry = agent.read(&format!("/audit/{}", all[7]["NODEAUDIT_ID"].as_str().unwrap()))["entry"].take();
    assert_eq!(all[7]["NODEAUDIT_USER_AGENT"], entry["user_agent"]);
    assert_eq!(all[7]["_BOOT_ID"], entry["boot_id"].as_str().unwrap().replace('-', ""));
    assert_eq!(all[7]["NODEAUDIT_SEQ"], entry["seq"].to_string());
}
