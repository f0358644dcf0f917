//! Exports in the formats that others' tools read, some of them with the real tool.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Agent, Connection, Node, Request, Response, assert_is_error, can_isolate};

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

/// Entries in an export of that format, and how many it says were evicted meanwhile.
fn told(format: &str, text: &str) -> (u64, u64) {
    let of_json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let behind = |mark: &str| text.rsplit_once(mark).unwrap().1.trim_end().parse::<u64>().unwrap();
    let count = |mark: &str| text.matches(mark).count() as u64;
    match format {
        "json" => {
            let object = of_json(text);
            let items = object["items"].as_array().unwrap().len() as u64;
            assert_eq!(object["total_items"], items);
            (items, object["evicted_items"].as_u64().unwrap())
        }
        "ndjson" => {
            let last = of_json(text.lines().last().unwrap());
            (count("\"seq\":"), last["gap"]["evicted_items"].as_u64().unwrap())
        }
        // The first line has the names of the columns.
        "csv" => (count("\r\n") - 2, behind("\r\n#gap,evicted_items,")),
        _ => (count("\nNODEAUDIT_SEQ="), behind("\nNODEAUDIT_GAP=")),
    }
}

#[test]
fn readers_who_are_slow_keep_nobody_from_reading_and_are_told_what_was_evicted_meanwhile() {
    let agent = Node::new("server.write_timeout_ms = 120000\naudit.max_entries = 4200\n").start();
    let token = agent.token(&["admin"]);
    // More of them than the kernel holds back for someone who does not read.
    let long =
        Request::get(&format!("/node/{}", "x".repeat(1_000))).header("User-Agent", "x".repeat(250)).bearer(&token);
    let mut connection = Connection::open(agent.address());
    (0..4_000).for_each(|_| drop(connection.call(&long)));
    let held = agent.read("/audit/status")["entries"].as_u64().unwrap();
    // More than there are places for readers of the ring.
    let exports = ["json", "ndjson", "csv", "journal", "json", "ndjson"].map(|format| {
        let mut export = Connection::open(agent.address());
        export.send(&Request::get(&format!("/audit/export?format={format}")).bearer(&token).whole());
        assert_eq!(export.receive_head().status, 200);
        (format, export)
    });
    // Such a page is read from the file.
    assert_eq!(agent.read("/audit?operation_id=GetAuditStatus")["total_items"], 1);
    (0..4_000).for_each(|_| drop(connection.call(&long)));
    for (before, (format, mut export)) in (1..).zip(exports) {
        let mut text = Vec::new();
        while let Some(chunk) = export.chunk().unwrap() {
            assert!(chunk.len() < 72 << 10, "{format}: {} bytes are held for someone who is slow", chunk.len());
            text.extend(chunk);
        }
        let (entries, evicted) = told(format, std::str::from_utf8(&text).unwrap());
        assert!(evicted > 0, "{format}: the export did not fit what the kernel holds back");
        // Whoever began before has an entry by then.
        assert_eq!(entries + evicted, held + before, "{format}");
    }
}

/// The query that the header `Link` has for what comes next.
fn next(page: &Response) -> Option<String> {
    let links = page.header("Link")?;
    let link = links.split(", ").find_map(|link| link.strip_suffix(">; rel=\"next\""))?;
    Some(link.trim_start_matches('<').to_owned())
}

#[test]
fn a_page_has_the_same_entries_and_the_same_links_in_every_format() {
    let agent = Node::new("audit.max_entries = 400\n").start();
    let token = agent.token(&["auditor"]);
    let page = |query: &str, accept: &str| {
        let page = Request::get(&format!("/audit{query}")).header("Accept", accept).bearer(&token);
        let page = agent.call(&page);
        assert_eq!(page.status, 200, "{query}: {}", page.text());
        page
    };
    let mut connection = Connection::open(agent.address());
    (0..700).for_each(|_| drop(connection.call(&Request::get("/health").bearer(&token))));
    // Newest first, as of a seq: these pages stay as they are.
    let as_of = page("", "*/*").header("Audit-As-Of").unwrap().to_owned();
    let objects = page(&format!("?as_of={as_of}&path=/health"), "application/json");
    let expected: Vec<String> = objects.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(expected.len(), 20);
    for (format, accept) in
        [("ndjson", "application/x-ndjson"), ("csv", "text/csv"), ("journal", "application/vnd.fdo.journal")]
    {
        let by_accept = page(&format!("?as_of={as_of}&path=/health"), accept);
        assert!(by_accept.header("Content-Type").unwrap().starts_with(accept), "{by_accept:?}");
        let by_name = page(&format!("?as_of={as_of}&path=/health&format={format}"), "application/json");
        assert_eq!(by_name.text(), by_accept.text(), "{format}");
        assert_eq!(by_accept.header("Audit-More"), Some("true"));
        assert_eq!(ids(format, by_accept.text()), expected, "{format}");
        // The next page is in the same format, and has what the next object has.
        let following = page(&next(&by_accept).unwrap(), "*/*");
        assert_eq!(following.header("Content-Type"), by_accept.header("Content-Type"));
        let objects = page(&next(&objects).unwrap(), "*/*").json();
        assert_eq!(ids(format, following.text())[0], objects["items"][0]["id"].as_str().unwrap());
        // By offset there is a total.
        let all = page(&format!("?format={format}"), "*/*");
        let total: u64 = all.header("Audit-Total-Items").unwrap().parse().unwrap();
        assert!(total > 20 && ids(format, all.text()).len() == 20, "{total}");
        // What is missing is told in a line and in the head.
        let behind = page(&format!("?after=1&format={format}"), "*/*");
        let gap: Value = serde_json::from_str(behind.header("Audit-Gap").unwrap()).unwrap();
        let count = gap["count"].as_u64().unwrap();
        assert!(count > 100, "{gap}");
        let told = behind.text().trim_end().rsplit('\n').next().unwrap();
        match format {
            "ndjson" => assert_eq!(serde_json::from_str::<Value>(told).unwrap()["gap"], gap),
            "csv" => assert_eq!(serde_json::from_str::<Value>(&fields(told)[1]).unwrap(), gap),
            _ => assert_eq!(told, format!("NODEAUDIT_GAP={count}")),
        }
    }
    let lines = Request::get("/audit").header("Accept", "text/html").header("Accept", "text/csv");
    let page = agent.call(&lines.bearer(&token));
    assert!(page.header("Content-Type").unwrap().starts_with("text/csv"), "the header may come in several lines");
    let refused = agent.call(&Request::get("/audit?format=xml").bearer(&token));
    assert!(assert_is_error(&refused, 400).contains("format takes json, ndjson, csv, journal or sse"));
}

/// The IDs of the entries in a page.
fn ids(format: &str, text: &str) -> Vec<String> {
    let id = |line: &str| match format {
        "ndjson" => serde_json::from_str::<Value>(line).unwrap()["id"].as_str().map(str::to_owned),
        "csv" => Some(fields(line)[0].clone()).filter(|first| first != "id" && first != "#gap"),
        _ => line.strip_prefix("NODEAUDIT_ID=").map(str::to_owned),
    };
    text.lines().filter_map(id).collect()
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
