//! `nodeaudit audit`: what it prints, for people and for programs, and what it ends with.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Agent, Authority, Killed, Node, Request, TlsClient, answering, can_isolate, command, eventually};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// `nodeaudit audit ...` against an agent, with a token that may read the log.
fn audit(agent: &Agent, arguments: &[&str]) -> Command {
    let mut command = command(&[&["audit"], arguments].concat());
    let url = format!("http://{}{}", agent.address(), agent.base_path);
    command.env("NODEAUDIT_URL", url).env("NODEAUDIT_TOKEN", agent.token(&["auditor"]));
    command
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("nodeaudit: ") && !error.contains("panicked"), "{error}");
    error
}

fn seqs<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u64> {
    let seq = |line: &str| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
    lines.into_iter().map(seq).collect()
}

#[test]
fn a_list_is_one_of_one_moment_however_many_pages_it_takes() {
    let agent = Node::new("server.base_path = \"/api\"\naudit.denied_entries = 4096\n").start();
    (0..250).for_each(|_| drop(agent.call(&Request::get("/api/health"))));
    let lines = printed(&mut audit(&agent, &["list", "--limit", "230", "-o", "ndjson"]));
    assert_eq!(seqs(lines.lines()), (21..=250).rev().collect::<Vec<_>>());
    let lines = printed(&mut audit(&agent, &["list", "--after", "3", "--limit", "150", "-o", "ndjson"]));
    assert_eq!(seqs(lines.lines()), (4..=153).collect::<Vec<_>>());
    let json = printed(&mut audit(&agent, &["list", "--path", "/api/health", "--limit", "999", "-o", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["items"].as_array().unwrap().len(), &json["total_items"]), (250, &250.into()));
    assert_eq!(json["items"][249]["seq"], 1);
    let none = printed(&mut audit(&agent, &["list", "--class", "change", "-o", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&none).unwrap()["items"], Value::Array(Vec::new()));
}

#[test]
fn the_formats_of_a_list_are_those_of_an_export() {
    let agent = Agent::start();
    for user_agent in ["=1+1", "a,\"b\"", "x"] {
        agent.call(&Request::get("/node/hostname").header("User-Agent", user_agent));
    }
    let options = ["--path", "/node/hostname"];
    for format in ["csv", "ndjson"] {
        let all = printed(&mut audit(&agent, &[&["export", "-o", format][..], &options].concat()));
        let listed = [&["list", "--after", "0", "-o", format][..], &options].concat();
        assert_eq!(printed(&mut audit(&agent, &listed)), all, "{format}");
    }
    let journal = printed(&mut audit(&agent, &["export", "-o", "journal", "--class", "denied"]));
    assert!(journal.contains("NODEAUDIT_PATH=/node/hostname\n"), "{journal}");
    let json = printed(&mut audit(&agent, &["export", "-o", "json", "--response-code", "401"]));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["total_items"], 3);
}

#[test]
fn people_get_a_table_whose_lines_nobody_else_breaks() {
    let agent = Agent::start();
    agent.call(&Request::get("/node/%1b%5b2J/\u{202e}x"));
    agent.call(&Request::get("/node/hostname").bearer(&agent.token(&["read"])));
    let table = printed(&mut audit(&agent, &["list"]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    let words: Vec<Vec<_>> = lines.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["TIME", "SEQ", "CLASS", "CODE", "MS", "USER", "SOURCE", "METHOD", "PATH"]);
    // The other one is recorded when its connection ends, which can be later.
    let read = words.iter().find(|line| line[2] == "read").unwrap();
    assert_eq!(read[3], "200");
    assert_eq!(read[5..], ["tester@example.com", "127.0.0.1", "GET", "/node/hostname"]);
    assert!(table.is_ascii() && !table.contains('\u{1b}'), "{table:?}");

    let listed = printed(&mut audit(&agent, &["list", "--limit", "1", "-o", "ndjson"]));
    let entry: Value = serde_json::from_str(&listed).unwrap();
    let id = entry["id"].as_str().unwrap();
    let fields = printed(&mut audit(&agent, &["get", id]));
    assert!(fields.lines().any(|line| line.split_whitespace().eq(["id", id])), "{fields}");
    let json = printed(&mut audit(&agent, &["get", id, "-o", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), entry);
    let unknown = refused(&mut audit(&agent, &["get", "00000000-0000-7000-8000-000000000000"]), 66);
    assert!(unknown.contains("404") && unknown.contains("hint"), "{unknown}");
}

/// What a terminal of that width shows of a list, and the environment of the command.
fn on_a_terminal(agent: &Agent, columns: &str, more: &[(&str, &str)]) -> Option<String> {
    let script = std::path::Path::new("/usr/bin/script");
    if !script.exists() {
        crate::support::skipped("there is no script(1) that gives a command a terminal");
        return None;
    }
    let line = format!("{} audit list", crate::support::BINARY);
    let mut command = Command::new(script);
    command.args(["-qec", &line, "/dev/null"]).env_clear().stdin(Stdio::null());
    command.env("NODEAUDIT_URL", format!("http://{}", agent.address()));
    command.env("NODEAUDIT_TOKEN", agent.token(&["auditor"]));
    command.env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh").env("TERM", "xterm").env("COLUMNS", columns);
    command.envs(more.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_terminal_gets_colours_where_they_are_wanted_and_no_line_beyond_its_width() {
    let agent = Agent::start();
    agent.call(&Request::get("/node/hostname/of/some/length/that/does/not/fit"));
    let Some(coloured) = on_a_terminal(&agent, "80", &[]) else { return };
    assert!(coloured.contains("\u{1b}[33m"), "{coloured:?}");
    for plain in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let plain = on_a_terminal(&agent, "60", &plain).unwrap();
        assert!(!plain.contains('\u{1b}') && plain.contains("PATH"), "{plain:?}");
        for line in plain.lines() {
            assert!(line.trim_end().chars().count() <= 60, "{line:?}");
        }
    }
}

#[test]
fn the_status_is_told_to_people_and_programs_and_so_is_a_failure() {
    let agent = Agent::start();
    agent.call(&Request::get("/health"));
    let table = printed(&mut audit(&agent, &["status"]));
    assert!(table.lines().any(|line| line.split_whitespace().eq(["health", "ok"])), "{table}");
    let denied = table.lines().find(|line| line.starts_with("denied")).unwrap();
    assert_eq!(denied.split_whitespace().collect::<Vec<_>>()[..3], ["denied", "relaxed", "1"]);
    let json: Value = serde_json::from_str(&printed(&mut audit(&agent, &["status", "-o", "json"]))).unwrap();
    assert_eq!(json["epoch"], agent.read("/audit/status")["epoch"]);
}

#[test]
fn how_it_ends_says_what_is_wrong() {
    let agent = Agent::start();
    let list = |arguments: &[&str]| audit(&agent, &[&["list"], arguments].concat());
    assert!(refused(&mut list(&["--response-code", "abc"]), 64).contains("response_code"), "the agent names it");
    let unit = std::path::Path::new("/run/nodeaudit/nodeaudit.sock");
    if !unit.exists() {
        let local = refused(list(&[]).env_remove("NODEAUDIT_URL"), 69);
        assert!(local.contains("unix:/run/nodeaudit/nodeaudit.sock"), "this node's: {local}");
    }
    assert!(refused(&mut list(&["--url", "ftp://x"]), 64).contains("--url must begin with"));
    refused(list(&[]).env_remove("NODEAUDIT_TOKEN"), 77);
    let forbidden = refused(list(&[]).env("NODEAUDIT_TOKEN", agent.token(&["read"])), 77);
    assert!(forbidden.contains("403") && forbidden.contains("audit:read"), "{forbidden}");
    let clear = refused(&mut list(&["--url", "http://192.0.2.1"]), 64);
    assert!(clear.contains("without TLS") && clear.contains("--plaintext"), "{clear}");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&mut list(&["--url", &format!("http://{free}")]), 69);

    let file = agent.node().folder().join("token");
    let file_name = file.to_str().unwrap();
    assert_eq!(list(&["--token-file", file_name]).output().unwrap().status.code(), Some(66));
    fs::write(&file, format!("{}\n", agent.token(&["auditor"]))).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&mut list(&["--token-file", file_name]), 77).contains("chmod 600"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    printed(list(&["--token-file", file_name]).env_remove("NODEAUDIT_TOKEN"));
    // Neither is a setting of the agent.
    let checked = command(&["check-config", "--dev"]).env("NODEAUDIT_URL", "x").env("NODEAUDIT_TOKEN", "x").output();
    assert!(checked.unwrap().status.success());
}

#[test]
fn entries_that_the_ring_has_lost_are_told_and_change_how_it_ends() {
    let agent = Node::new("audit.max_entries = 1000\naudit.denied_entries = 4096\n").start();
    let mut connection = agent.connect();
    (0..2_000).for_each(|_| drop(connection.call(&Request::get("/health"))));
    let output = audit(&agent, &["list", "--after", "100", "--limit", "5", "-o", "ndjson"]).output().unwrap();
    assert_eq!(output.status.code(), Some(79), "{output:?}");
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 6);
    let gap: Value = serde_json::from_str(lines[5]).unwrap();
    let count = gap["gap"]["count"].as_u64().unwrap();
    assert_eq!(seqs(lines[..1].iter().copied()), [101 + count]);
    assert!(text(&output.stderr).contains(&format!("missing: {count} entries from seq 101")), "{output:?}");
}

#[test]
fn a_reader_who_has_seen_enough_ends_it_quietly() {
    let agent = Agent::start();
    let mut connection = agent.connect();
    (0..2_000).for_each(|_| drop(connection.call(&Request::get("/health"))));
    for arguments in
        [&["export"][..], &["list", "--limit", "2000", "-o", "ndjson"], &["tail", "-n", "100", "-o", "csv"]]
    {
        let mut child = audit(&agent, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // To who follows, the end of his reader is told with the next entry.
        let ended = eventually("the end of it", || {
            agent.call(&Request::get("/health"));
            child.try_wait().unwrap()
        });
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(ended.success() && error.is_empty(), "{arguments:?}: {ended} {error}");
    }
}

#[test]
fn who_follows_a_log_without_entries_sees_the_first_one() {
    let agent = Agent::start();
    let mut tail = audit(&agent, &["tail", "-o", "ndjson"]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    let output = tail.stdout.take().unwrap();
    let _tail = Killed::new(tail);
    let ring = agent.node().state_dir().join(nodeaudit::audit::ring::FILE_NAME);
    let ring = rusqlite::Connection::open_with_flags(ring, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = "SELECT count(*) FROM read";
    eventually("its first call", || (ring.query_row(count, [], |row| row.get(0)) == Ok(1_u64)).then_some(()));
    let called = agent.call(&Request::get("/health"));
    let line = BufReader::new(output).lines().next().expect("it goes on").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], called.audit_id());
}

#[test]
fn who_follows_sees_each_entry_once_and_goes_on_when_the_agent_is_back() {
    let agent = Agent::start();
    let address = agent.address();
    (0..3).for_each(|_| drop(agent.call(&Request::get("/health"))));
    let mut tail = audit(&agent, &["tail", "-n", "2", "-o", "ndjson"]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (output, error) = (tail.stdout.take().unwrap(), tail.stderr.take().unwrap());
    let _tail = Killed::new(tail);
    let mut lines = BufReader::new(output).lines().map(Result::unwrap);
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap()).unwrap();
    assert_eq!([next()["seq"].clone(), next()["seq"].clone()], [2, 3]);
    let id = |agent: &Agent| agent.call(&Request::get("/health")).audit_id().to_owned();
    for _ in 0..3 {
        let called = id(&agent);
        assert_eq!(next()["id"], called.as_str(), "and none of its own calls");
    }
    let node = agent.stop(Signal::SIGTERM).0;
    let mut complaints = BufReader::new(error).lines().map(Result::unwrap);
    assert!(complaints.next().unwrap().contains("trying again"));
    let agent = node.start_at(address);
    let called = id(&agent);
    let found = (0..20).map(|_| next()).find(|entry| entry["path"] == "/health").unwrap();
    assert_eq!(found["id"], called.as_str());
}

#[test]
fn an_agent_is_trusted_by_its_authority_or_its_one_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.issue("node-7");
    let node = Node::new("tls.certificate = \"tls.crt\"\n");
    let path = |name: &str| node.folder().join(name);
    let write = |name: &str, text: &str| -> PathBuf {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
        path(name)
    };
    let (certificate, key) = (write("tls.crt", &own.certificate), write("tls.key", &own.key));
    let (good, bad) = (write("ca.crt", &authority.certificate), write("other.crt", &other.certificate));
    let caller = authority.issue("fleet");
    let (shown, shown_key) = (write("fleet.crt", &caller.certificate), write("fleet.key", &caller.key));
    let config = format!(
        "[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nclient_ca = {good:?}\nclient_auth = \"required\"\n\
         [tls.roles]\n\"CN=fleet,O=Example\" = [\"auditor\"]\n"
    );
    fs::write(path("nodeaudit.toml"), config).unwrap();
    let client = TlsClient::new(&authority.certificate, Some(&caller));
    let agent = node.over_tls(client).start();
    let url = format!("https://{}", agent.address());
    let list = |arguments: &[&str]| {
        let mut command = command(&[&["audit", "list", "--url", &url], arguments].concat());
        command.output().unwrap()
    };
    let own_certificate = ["--cert", shown.to_str().unwrap(), "--key", shown_key.to_str().unwrap()];
    let with = |arguments: &[&str]| list(&[&own_certificate[..], arguments].concat());
    let der = pem_to_der(&own.certificate);
    let pin = nodeaudit::tls::fingerprint(&der);
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    for arguments in [["--cacert", good], ["--pin", &pin], ["--pin", &pin.replace(':', "").to_lowercase()]] {
        let output = with(&arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let wrong_pin = nodeaudit::tls::fingerprint(&pem_to_der(&other.certificate));
    for arguments in [&["--cacert", bad][..], &["--pin", &wrong_pin], &[]] {
        let output = with(arguments);
        assert_eq!(output.status.code(), Some(76), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains("no TLS with"), "{output:?}");
    }
    let anonymous = list(&["--cacert", good]);
    assert_eq!(anonymous.status.code(), Some(76), "it shows no certificate: {anonymous:?}");
    assert_eq!(with(&["--cacert", good, "--pin", &pin]).status.code(), Some(64));
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn what_answers_and_is_no_agent_is_told_and_does_nothing_to_the_terminal() {
    let list = |answer: Vec<u8>, code: i32| {
        let url = format!("http://{}", answering(answer));
        let error = refused(command(&["audit", "list", "--url", &url]).env("NODEAUDIT_TOKEN", "x"), code);
        assert!(!error.contains('\u{1b}') && error.lines().count() <= 2, "{error:?}");
        error
    };
    list(b"SSH-2.0-OpenSSH\r\n".to_vec(), 76);
    list(answer("200 OK", "<html>"), 76);
    list(answer("200 OK", "{\"items\":[{\"seq\":\"\u{1b}[2J\"}]}"), 76);
    list(answer("302 Found\r\nLocation: http://evil/", ""), 76);
    let told = list(answer("403 x", "{\"error\":\"\\u001b]0;x\\u0007 no\",\"details\":\"a\\r\\nb\"}"), 77);
    assert!(told.contains("\\u{1b}]0;x\\u{7} no a\\r\\nb"), "{told}");
    list(answer("503 x", "busy"), 75);
    list(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{}".to_vec(), 69);
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &b" ".repeat(5 << 20)].concat();
    assert!(list(endless, 76).contains("sends more than"));
}

#[test]
fn root_reads_the_log_of_his_node_through_its_socket_without_a_token() {
    if !can_isolate(&[]) {
        return;
    }
    let node = Node::new("");
    let path = node.folder().join("api.sock");
    let config = format!("server.base_path = \"/api\"\nserver.socket = \"{}\"\n", path.display());
    fs::write(node.folder().join("nodeaudit.toml"), config).unwrap();
    let agent = node.start();
    agent.call(&Request::get("/api/health"));
    let url = format!("unix:{}:/api", path.display());
    let lines = printed(&mut command(&["audit", "list", "--url", &url, "-o", "ndjson"]));
    assert_eq!(seqs(lines.lines()), [1]);
    let status = printed(&mut command(&["audit", "status", "--url", &url, "-o", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["health"], "ok");
    let entry = agent.read("/audit?path=/api/audit")["items"][0].take();
    assert_eq!((&entry["auth_method"], &entry["response_code"]), (&"unix".into(), &200.into()), "{entry}");
    // Where none is named it is that of the packages.
    let error = refused(&mut command(&["audit", "status", "--url", "unix:/nonexistent/api.sock"]), 69);
    assert!(error.contains("can't reach unix:/nonexistent/api.sock"), "{error}");
}
