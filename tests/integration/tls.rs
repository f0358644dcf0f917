//! TLS: who is let in, what is recorded of those who are not, and certificates that change while calls are in the air.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Agent, Authority, Connection, Ledger, Pair, Request, TlsClient, run};

/// Method, path, outcome, class and status of an entry.
fn gist(entry: &Value) -> [&str; 4] {
    ["method", "path", "outcome", "class"].map(|name| entry[name].as_str().unwrap())
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn calls_over_tls_are_served_and_recorded_as_any_other() {
    let authority = Authority::new();
    let agent = authority.issue("node").node(TlsClient::new(&authority.certificate, None), "").start();
    let mut ledger = Ledger::open(&agent);
    let mut connection = agent.connect();
    let token = agent.token(&["admin"]);
    for _ in 0..3 {
        let response = connection.call(&Request::get("/node/hostname").bearer(&token));
        assert_eq!(response.status, 200);
        let entry = ledger.only();
        assert_eq!((&entry["id"], &entry["auth_method"]), (&json!(response.audit_id()), &json!("bearer")));
    }
    assert_eq!(connection.call(&Request::get("/node/hostname")).status, 401);
    assert_eq!(ledger.only()["response_code"], 401);
    connection.send(b"GET / HTTP/9\r\n\r\n");
    assert_eq!(connection.receive("GET").status, 400);
    assert_eq!(gist(&ledger.awaited("a malformed request")[0])[2..], ["rejected", "denied"]);
}

#[test]
fn a_certificate_says_who_calls_and_its_subject_what_he_may_do() {
    let authority = Authority::new();
    let own = authority.issue("node");
    let with = |caller: &Pair| TlsClient::new(&authority.certificate, Some(caller));
    let manager = authority.issue("fleet-manager");
    let config =
        "client_auth = \"optional\"\nclient_ca = CA\nroles.\"CN=fleet-manager,O=Example\" = [\"read\", \"auditor\"]";
    let node = own.node(with(&manager), "");
    let ca = node.folder().join("ca");
    fs::write(&ca, &authority.certificate).unwrap();
    let file = node.folder().join("nodeaudit.toml");
    let text = fs::read_to_string(&file).unwrap() + &config.replace("CA", &format!("{ca:?}"));
    fs::write(&file, text).unwrap();
    let agent = node.start();

    let response = agent.call(&Request::get("/node/hostname"));
    assert_eq!(response.status, 200, "no token is needed: {}", response.text());
    let entry = agent.entry_of(&response);
    assert_eq!(entry["user"], "CN=fleet-manager,O=Example");
    assert_eq!((&entry["auth_method"], &entry["roles"]), (&json!("mtls"), &json!(["read", "auditor"])));
    assert_eq!(entry["class"], "read");
    let change = Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#);
    assert_eq!(agent.call(&change).status, 403, "what its roles do not hold");

    // A token counts more, be it good or bad.
    let token = agent.token(&["admin"]);
    assert_eq!(agent.call(&change.clone().bearer(&token)).status, 404);
    assert_eq!(agent.call(&Request::get("/node/hostname").bearer("a.b.c")).status, 401);

    let mut other = Connection::open_tls(agent.address(), &with(&authority.issue("somebody")));
    let refused = other.call(&Request::get("/node/hostname"));
    assert_eq!(refused.status, 403);
    assert_eq!(agent.entry_of(&refused)["user"], "CN=somebody,O=Example");
    let mut without = Connection::open_tls(agent.address(), &TlsClient::new(&authority.certificate, None));
    assert_eq!(without.call(&Request::get("/node/hostname")).status, 401);
    let stranger = TlsClient::new(&authority.certificate, Some(&Authority::new().issue("fleet-manager")));
    let mut stranger = Connection::open_tls(agent.address(), &stranger);
    assert!(stranger.try_call(&Request::get("/node/hostname")).is_err(), "another authority's word is nothing");
    let mut ledger = Ledger::open(&agent);
    drop(ledger.news());
    let page = agent.read("/audit?limit=20");
    let failed: Vec<_> = page["items"].as_array().unwrap().iter().filter(|entry| entry["method"] == "TLS").collect();
    assert_eq!(failed.len(), 1, "{page:#}");
    assert!(failed[0]["path"].as_str().unwrap().starts_with("handshake: invalid peer certificate"), "{page:#}");
}

#[test]
fn a_handshake_that_fails_leaves_an_entry_that_says_why() {
    let authority = Authority::new();
    let node = authority
        .issue("node")
        .node(TlsClient::new(&authority.certificate, None), "min_version = \"1.3\"\nhandshake_timeout_ms = 300");
    let agent = node.start();
    let mut ledger = Ledger::open(&agent);
    let talk = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(agent.address()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };

    let answer = talk(b"GET /node/hostname?secret HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\nserver: nodeaudit\r\n"), "{answer}");
    let entry = &ledger.awaited("plain HTTP")[0];
    assert_eq!(gist(entry), ["GET", "/node/hostname", "rejected", "denied"]);
    assert_eq!(entry["response_code"], 400);

    // A record that is cut short, one that is no handshake within, silence, and a version that is too old.
    talk(b"\x16\x03\x01\x02\x00\x01");
    assert_eq!(
        gist(&ledger.awaited("a late handshake")[0]),
        ["TLS", "handshake: no handshake in time", "rejected", "denied"]
    );
    talk(b"\x16\x03\x01\x00\x05hello");
    let entry = &ledger.awaited("a broken handshake")[0];
    assert!(gist(entry)[1].starts_with("handshake: "), "{entry}");
    talk(b"");
    assert_eq!(gist(&ledger.awaited("silence")[0])[1], "handshake: no handshake in time");
    let old = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &agent.address().to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is installed");
    assert!(!old.status.success());
    let entry = &ledger.awaited("an old version")[0];
    assert!(gist(entry)[1].contains("incompatible"), "{entry}");

    // Who only looks whether the port is open has not called.
    drop(TcpStream::connect(agent.address()).unwrap());
    let response = agent.call(&Request::get("/health"));
    assert_eq!(ledger.only()["id"], response.audit_id());
}

#[test]
fn a_new_certificate_is_in_force_after_a_reload_and_open_connections_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let agent = old.issue("node").node(TlsClient::new(&old.certificate, None), "").start();
    let admin = agent.token(&["admin"]);
    let mut kept = agent.connect();
    assert_eq!(kept.call(&Request::get("/health")).status, 200);
    let status = |connection: &mut Connection| {
        connection.call(&Request::get("/audit/status").bearer(&admin)).json()["configuration"].take()
    };

    let folder = agent.node().folder().to_owned();
    fs::write(folder.join("crt"), "nonsense").unwrap();
    agent.hang_up();
    crate::support::eventually("a refused reload", || (status(&mut kept)["refused"] == 1).then_some(()));
    assert_eq!(agent.call(&Request::get("/health")).status, 200, "a bad file changes nothing");

    new.issue("node").write(&folder);
    agent.hang_up();
    crate::support::eventually("a reload", || (status(&mut kept)["reloads"] == 1).then_some(()));
    assert_eq!(kept.call(&Request::get("/health")).status, 200, "an open connection goes on");
    let of =
        |authority: &Authority| Connection::open_tls(agent.address(), &TlsClient::new(&authority.certificate, None));
    assert_eq!(of(&new).call(&Request::get("/health")).status, 200);
    assert!(of(&old).try_call(&Request::get("/health")).is_err(), "the old certificate is gone");
}

#[test]
fn an_address_that_others_reach_needs_tls_or_an_explicit_word() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodeaudit.toml");
    let check = |config: &str| {
        fs::write(&file, config).unwrap();
        let checked = run(&["check-config", "--config", file.to_str().unwrap()]);
        (checked.status.code(), String::from_utf8(checked.stderr).unwrap())
    };
    for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
        let (code, told) = check(&format!("server.listen = \"{address}\""));
        assert_eq!(code, Some(78), "{told}");
        assert!(told.contains("nodeaudit.toml:1: server.listen: must be a loopback address without TLS"), "{told}");
        assert_eq!(check(&format!("server.listen = \"{address}\"\nserver.plaintext = \"allow\"")).0, Some(0));
        assert_eq!(
            check(&format!("server.listen = \"{address}\"\ntls.certificate = \"/c\"\ntls.key = \"/k\"")).0,
            Some(0)
        );
    }
    let refused = [
        ("tls.key = \"/k\"", "tls.key: a certificate and its key go together"),
        ("tls.client_auth = \"required\"", "tls.client_auth: needs tls.certificate"),
        ("tls.roles.\"CN=a\" = [\"root\"]", "tls.roles: names the role \"root\""),
        ("tls.roles.a = []", "tls.roles.a: must be subjects of certificates"),
        ("proxy.trusted = [\"node\"]", "proxy.trusted"),
    ];
    for (config, told) in refused {
        let (code, stderr) = check(config);
        assert_eq!(code, Some(78), "{config}");
        assert!(stderr.contains(told), "{config}: {stderr}");
    }
}

#[test]
fn certificates_that_callers_would_not_take_are_refused() {
    let pair = Authority::new().issue("node");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    Pair { certificate: pair.certificate.repeat(200), ..pair }.write(folder.path());
    let config = folder.path().join("nodeaudit.toml");
    fs::write(&config, format!("state_dir = \"{at}/state\"\n[tls]\ncertificate = \"{at}/crt\"\nkey = \"{at}/key\"\n"))
        .unwrap();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(65));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("crt holds more than 60000 bytes of certificates"), "{told}");
}

#[test]
fn tls_init_makes_private_files_that_the_agent_and_others_can_use() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nodeaudit.toml");
    let (key, certificate) = (folder.path().join("tls.key"), folder.path().join("tls.crt"));
    fs::write(&config, format!("[tls]\nkey = {key:?}\ncertificate = {certificate:?}\n")).unwrap();
    let state_dir = folder.path().join("state");
    let init = |more: &[&str]| {
        let files = ["--config", config.to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()];
        run(&[&["tls", "init"], &files[..], more].concat())
    };
    let made = init(&[]);
    assert!(made.status.success(), "{made:?}");
    let told = String::from_utf8(made.stdout).unwrap();
    for path in [&key, &certificate] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let fingerprint = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", certificate.to_str().unwrap()]);
    let fingerprint = fingerprint.trim().split_once('=').unwrap().1;
    assert!(told.contains(fingerprint), "{told} {fingerprint}");

    let first = fs::read(&key).unwrap();
    let again = init(&[]);
    assert_eq!(again.status.code(), Some(73), "{again:?}");
    assert_eq!(fs::read(&key).unwrap(), first, "nothing was replaced");
    assert!(init(&["--force", "--name", "node-7.example", "--address", "127.0.0.1"]).status.success());
    assert_ne!(fs::read(&key).unwrap(), first);
    let text = openssl(&["x509", "-noout", "-text", "-in", certificate.to_str().unwrap()]);
    for part in ["DNS:node-7.example", "IP Address:127.0.0.1", "prime256v1", "TLS Web Server Authentication"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // The agent uses them, and who has the certificate trusts it.
    let pair = Pair { certificate: fs::read_to_string(&certificate).unwrap(), key: fs::read_to_string(&key).unwrap() };
    let agent: Agent = pair.node(TlsClient::new(&pair.certificate, None), "").start();
    let url = format!("https://{}/health", agent.address());
    let mut curl = Command::new("curl");
    let called = curl.args(["-sS", "--cacert", certificate.to_str().unwrap(), &url]).output().unwrap();
    assert!(called.status.success(), "{called:?}");

    let asked = init(&["--force", "--request", "--name", "node-7.example"]);
    assert!(asked.status.success(), "{asked:?}");
    let request = folder.path().join("tls.csr");
    let text = openssl(&["req", "-noout", "-verify", "-text", "-in", request.to_str().unwrap()]);
    assert!(text.contains("DNS:node-7.example"), "{text}");
}
