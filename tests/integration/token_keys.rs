//! Keys: a node has the public ones, several at once, and they change while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use jsonwebtoken::Algorithm;
use nix::sys::signal::{Signal, kill};
use nodeaudit::auth::{Grant, SigningKey, TokenIssuer};
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Agent, Connection, ISSUER, Issuer, Node, Request, eventually, now_s, run};

const ED25519: [&str; 2] = ["-algorithm", "ed25519"];

fn status_of(agent: &Agent, token: &str) -> u16 {
    agent.call(&Request::get("/audit/status").bearer(token)).status
}

fn token_of(key: &SigningKey) -> String {
    let grant =
        Grant { subject: "ada".to_owned(), roles: vec!["admin".to_owned()], lifetime_s: 600, ..Issuer::grant() };
    TokenIssuer::new(key).issue(&grant, now_s()).unwrap()
}

#[test]
fn a_node_with_public_keys_has_nothing_to_sign_with() {
    let Some(issuer) = Issuer::new() else { return };
    let agent = issuer.node("").start();
    assert_eq!(status_of(&agent, &token_of(&issuer.key("rsa"))), 200);
    assert!(!agent.node().state_dir().join("token.key").exists(), "no secret was made");
    let (config, state_dir) = (agent.node().folder().join("nodeaudit.toml"), agent.node().state_dir());
    let line = ["token", "issue", "--subject", "a", "--role", "admin", "--ttl", "1h"];
    let of_node = ["--config", config.to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()];
    let refused = run(&[&line[..], &of_node].concat());
    assert_eq!(refused.status.code(), Some(66), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("public keys only"), "{refused:?}");
    let verified = run(&[&["token", "verify", &token_of(&issuer.key("ec"))][..], &of_node].concat());
    assert!(verified.status.success(), "{verified:?}");
    let secret = SigningKey::from_secret(&[b'x'; 32]).unwrap();
    assert_eq!(status_of(&agent, &token_of(&secret)), 401, "no shared secret is accepted");
}

#[test]
fn keys_change_while_calls_go_on_and_none_is_dropped() {
    let Some(issuer) = Issuer::new() else { return };
    let agent = issuer.node("").start();
    // Of a key that stays.
    let steady = token_of(&issuer.key("rsa"));
    let (stop, changes) = (AtomicBool::new(false), 10);
    let calls = thread::scope(|scope| {
        let callers = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut connection = Connection::open(agent.address());
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    let response = connection.call(&Request::get("/node/load").bearer(&steady));
                    assert_eq!(response.status, 200, "{}", response.text());
                    calls += 1;
                }
                calls
            })
        });
        for change in 0..changes {
            let kid = format!("new-{change}");
            issuer.make(&kid, &ED25519);
            let new = token_of(&issuer.key(&kid));
            assert_eq!(status_of(&agent, &new), 401, "not before the reload");
            agent.reload(&new, (2 * change + 1, 0));
            fs::remove_file(issuer.public_keys().join(format!("{kid}.pem"))).unwrap();
            agent.reload(&steady, (2 * change + 2, 0));
            assert_eq!(status_of(&agent, &new), 401, "the cache goes with its keys");
        }
        stop.store(true, Ordering::Relaxed);
        callers.map(|caller| caller.join().unwrap()).into_iter().sum::<u64>()
    });
    assert!(calls > changes, "{calls}");
    assert_eq!(agent.read("/audit/status")["dropped"], 0);
}

#[test]
fn a_token_is_called_back_by_its_id() {
    let Some(issuer) = Issuer::new() else { return };
    let revoked = issuer.folder().join("revoked");
    let write_list = |text: &str| {
        fs::write(&revoked, text).unwrap();
        fs::set_permissions(&revoked, Permissions::from_mode(0o644)).unwrap();
    };
    write_list("# nothing yet\n");
    let agent = issuer.node(&format!("revoked_tokens = {revoked:?}\n")).start();
    let claims = |id: &str| {
        let (iat, exp) = (now_s(), now_s() + 600);
        json!({"sub": "ada", "roles": ["admin"], "jti": id, "iss": ISSUER, "aud": AUDIENCE, "iat": iat, "exp": exp})
    };
    let sign = |id: &str| issuer.sign("ed", Algorithm::EdDSA, r#"{"alg":"EdDSA","kid":"ed"}"#, &claims(id).to_string());
    let (lost, kept) = (sign("laptop-7"), sign("laptop-8"));
    assert_eq!([status_of(&agent, &lost), status_of(&agent, &kept)], [200, 200]);
    write_list("# stolen on Monday\nlaptop-7\n");
    agent.reload(&kept, (1, 0));
    let response = agent.call(&Request::get("/audit/status").bearer(&lost));
    assert_eq!(response.status, 401);
    assert!(response.text().contains("revoked"), "{}", response.text());
    // A list that can't be read calls nobody in again.
    fs::set_permissions(&revoked, Permissions::from_mode(0o666)).unwrap();
    let status = agent.reload(&kept, (1, 1));
    assert!(status["failure"].as_str().is_some_and(|failure| failure.contains("can be changed by")), "{status}");
    assert_eq!([status_of(&agent, &lost), status_of(&agent, &kept)], [401, 200]);
}

#[test]
fn a_set_of_json_web_keys_is_as_good_as_pem() {
    let Some(issuer) = Issuer::new() else { return };
    let set = issuer.folder().join("jwks.json");
    // The public key of Ed25519 is what PEM's last 32 bytes are.
    let pem = fs::read_to_string(issuer.public_keys().join("ed.pem")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
    let x = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &der[der.len() - 32..]);
    let keys = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "from-a-set", "x": x},
        {"kty": "RSA", "use": "enc", "kid": "for something else", "n": "AQAB", "e": "AQAB"},
    ]});
    fs::write(&set, keys.to_string()).unwrap();
    fs::set_permissions(&set, Permissions::from_mode(0o644)).unwrap();
    let config = format!("auth.keys = [{set:?}]\nauth.audiences = [{AUDIENCE:?}]\n");
    let key = issuer.key("ed").named(Some("from-a-set".to_owned()));
    let agent = Node::new(&config).signing(key, Issuer::grant()).start();
    assert_eq!(agent.read("/node/hostname").as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(status_of(&agent, &token_of(&issuer.key("ed"))), 401, "its kid is not the set's");
}

#[test]
fn a_token_for_one_node_is_none_for_another_whatever_their_host_names() {
    let Some(issuer) = Issuer::new() else { return };
    let host_name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let [seven, eight] = ["node-7", "node-8"].map(|name| {
        let config = format!("auth.keys = [{:?}]\nauth.audiences = [{name:?}]\n", issuer.public_keys());
        let grant = Grant { audience: Some(name.to_owned()), ..Grant::default() };
        Node::new(&config).signing(issuer.key("ec"), grant).start()
    });
    let token_to = |audience: &str| {
        let audience = Some(audience.to_owned());
        let grant = Grant {
            subject: "a".to_owned(),
            roles: vec!["admin".to_owned()],
            lifetime_s: 600,
            audience,
            ..Grant::default()
        };
        TokenIssuer::new(&issuer.key("ec")).issue(&grant, now_s()).unwrap()
    };
    for (audience, accepted) in [("node-7", [200, 401]), ("node-8", [401, 200]), (host_name.as_str(), [401, 401])] {
        let token = token_to(audience);
        assert_eq!([status_of(&seven, &token), status_of(&eight, &token)], accepted, "{audience}");
    }
}

#[test]
fn public_keys_without_a_name_for_the_node_are_refused_before_anything_starts() {
    let Some(issuer) = Issuer::new() else { return };
    let (code, told) = refusal(&format!("auth.keys = [{:?}]\n", issuer.public_keys()));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("nodeaudit.toml:1: auth.keys: needs auth.audiences"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodeaudit.toml");
    fs::write(&file, format!("[auth]\nkeys = [{:?}]\n", issuer.public_keys())).unwrap();
    let checked = run(&["check-config", "--config", file.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(78), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stderr).contains("2: auth.keys: needs auth.audiences"), "{checked:?}");
    fs::write(&file, format!("[auth]\nkeys = [{:?}]\naudiences = [\"node-7\"]\n", issuer.public_keys())).unwrap();
    let checked = run(&["check-config", "--config", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
}

/// What the agent says that does not start with this configuration.
fn refusal(config: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodeaudit.toml");
    fs::write(&file, config).unwrap();
    let state_dir = folder.path().join("state");
    let line = ["serve", "--dev", "--listen", "127.0.0.1:0", "--config"];
    let ended = run(&[&line[..], &[file.to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()]].concat());
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn the_agent_does_not_start_with_a_key_that_is_no_good() {
    let Some(issuer) = Issuer::new() else { return };
    let file = |name: &str, text: &[u8], mode: u32| {
        let path = issuer.folder().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let read = |path: &Path| fs::read(path).unwrap();
    let public = |kid: &str| read(&issuer.public_keys().join(format!("{kid}.pem")));
    issuer.make("weak", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let ssh = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz4IMJ5 ada@example.com\n";
    let secret_key = json!({"kty": "oct", "kid": "x", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"});
    // RFC 8037, appendix A, of which the nodes should have the public half alone.
    let public_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let mut signing_jwk = public_jwk.clone();
    signing_jwk["d"] = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A".into();
    signing_jwk["key_ops"] = json!(["sign"]);
    let mut wrapping_jwk = secret_key.clone();
    wrapping_jwk["alg"] = "A256KW".into();
    let set = |keys: Value| json!({ "keys": keys }).to_string().into_bytes();
    let with_pem = json!({"keys": [], "pem": String::from_utf8(public("ed")).unwrap()}).to_string();
    // The neutral point, for which anybody signs: RFC 8410's form, and 1 as the number of 32 bytes.
    let neutral = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    issuer.make("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let catalogue = [
        ("key_file", file("empty", b"", 0o600), 65, "has 0 bytes, must have at least 32"),
        ("key_file", file("short", b"0123456789012345678901234567890\n", 0o600), 65, "has 31 bytes"),
        ("key_file", file("open", &[b'x'; 64], 0o644), 77, "open to group or others"),
        ("key_file", issuer.folder().join("none"), 66, "there is no file"),
        ("key_file", file("ssh", ssh, 0o600), 65, "a key of SSH, and no shared secret"),
        ("key_file", file("mark", format!("\u{feff}{}", "x".repeat(64)).as_bytes(), 0o600), 65, "byte order mark"),
        ("key_file", file("jwk", secret_key.to_string().as_bytes(), 0o600), 65, "JSON"),
        ("key_file", file("der", &[&[0x30, 0x42, 2, 1, 0][..], &[4; 63]].concat(), 0o600), 65, "in DER"),
        ("keys", file("neutral.pem", neutral.as_bytes(), 0o644), 65, "small order"),
        ("keys", file("signing.json", &set(json!([public_jwk, signing_jwk])), 0o644), 65, "holds a private key"),
        (
            "keys",
            file("wrapping.json", &set(json!([public_jwk, wrapping_jwk])), 0o644),
            77,
            "holds a secret and is open",
        ),
        ("keys", file("pem.json", with_pem.as_bytes(), 0o644), 65, "none of its keys"),
        ("keys", file("two.json", &set(json!([public_jwk, public_jwk])), 0o644), 65, "no token can say which is meant"),
        ("keys", file("weak.pem", &public("weak"), 0o644), 65, "1024 bits"),
        ("keys", file("p384.pem", &public("p384"), 0o644), 65, "not for EdDSA with Ed25519, ES256 or RS256"),
        ("keys", file("private.pem", &read(&issuer.private_key("ed")), 0o600), 65, "holds a private key"),
        ("keys", file("writable.pem", &public("ed"), 0o666), 77, "can be changed by group or others"),
        ("keys", file("text.pem", b"hello", 0o644), 65, "not PEM"),
        ("keys", file("set.json", b"{}", 0o644), 65, "not a well-formed JSON Web Key"),
        ("revoked_tokens", file("revoked", b"\x07\n", 0o644), 65, "revoked:1"),
        ("revoked_tokens", file("commented", b"t1 # stolen\n", 0o644), 65, "commented:1: not one ID and nothing else"),
    ];
    for (key, path, code, reason) in catalogue {
        let value = if key == "keys" { format!("[{path:?}]") } else { format!("{path:?}") };
        let (ended, told) = refusal(&format!("auth.{key} = {value}\nauth.audiences = [{AUDIENCE:?}]\n"));
        assert_eq!(ended, Some(code), "{path:?}: {told}");
        assert!(told.contains(reason) && told.contains(path.to_str().unwrap()), "{path:?}: {told}");
        assert!(!told.contains("0123456789"), "the secret is told: {told}");
    }
}

#[test]
fn a_file_that_is_not_named_as_a_key_is_ignored_and_the_log_says_so() {
    let Some(issuer) = Issuer::new() else { return };
    issuer.make("old", &ED25519);
    let at = |name: &str| issuer.public_keys().join(name);
    fs::rename(at("old.pem"), at("old.pem.disabled")).unwrap();
    let agent = issuer.node("").start();
    assert_eq!(status_of(&agent, &token_of(&issuer.key("old"))), 401);
    fs::rename(at("old.pem.disabled"), at("old.pem")).unwrap();
    agent.reload(&token_of(&issuer.key("old")), (1, 0));
    fs::rename(at("old.pem"), at("old.pem~")).unwrap();
    agent.reload(&token_of(&issuer.key("ed")), (2, 0));
    assert_eq!(status_of(&agent, &token_of(&issuer.key("old"))), 401);
    let (_, log) = agent.stop(Signal::SIGTERM);
    for name in ["old.pem.disabled", "old.pem~"] {
        assert!(log.contains(&format!("{} is ignored", at(name).display())), "{log}");
    }
    assert!(!log.contains(&format!("{} is ignored", at("ed.pem").display())), "{log}");
}

#[test]
fn without_a_folder_of_credentials_no_file_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("shared.key");
    fs::write(&key, [b'x'; 64]).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let signing = SigningKey::from_secret(&[b'x'; 64]).unwrap();
    let node = || Node::new(&format!("auth.key_file = {key:?}\n")).signing(signing.clone(), Grant::default());
    let log = |node: Node| node.try_start().err().map(|(_, log)| log).unwrap_or_default();
    for empty in ["", "."] {
        let log = log(node().variable("CREDENTIALS_DIRECTORY", empty));
        assert!(log.contains("open to group or others"), "{empty:?}: {log}");
    }
    // The control: systemd lets the agent's user in by the bits of the group.
    assert_eq!(log(node().variable("CREDENTIALS_DIRECTORY", folder.path())), "");
}

#[test]
fn a_hangup_before_the_first_call_does_not_end_the_agent() {
    let Some(issuer) = Issuer::new() else { return };
    let agent = issuer.node("").start();
    kill(agent.process(), Signal::SIGHUP).unwrap();
    let status: Value = eventually("the reload", || {
        let mut status = agent.read("/audit/status");
        (status["configuration"]["reloads"] == 1).then(|| status["configuration"].take())
    });
    assert_eq!(status["refused"], 0, "{status}");
}
