//! The commands: what they print, where, and what they end with.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Agent, Request, command, run};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_wrong_command_line_ends_with_64_and_says_what_is_wrong() {
    let dev = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    for arguments in [
        &["--no-such-flag"][..],
        &["no-such-command"],
        &[],
        &["serve", "--listen", "localhost"],
        &["serve", "--apply-changes"],
        &["token", "issue", "--subject", "a"],
        &["token", "issue", "--subject", "a", "--role", "read", "--ttl", "8d"],
        &["token", "issue", "--subject", "a", "--permission", "node:erase", "--ttl", "1h"],
        &[&dev[..], &["--no-such-flag"]].concat(),
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(64), "{arguments:?}: {refused:?}");
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{arguments:?}");
    }
    let similar = run(&["serve", "--lissten", "127.0.0.1:0"]);
    assert!(text(&similar.stderr).contains("--listen"), "{similar:?}");
}

#[test]
fn help_and_version_are_no_failures() {
    for flag in ["--help", "--version"] {
        let printed = run(&[flag]);
        assert_eq!(printed.status.code(), Some(0));
        assert!(text(&printed.stdout).contains("nodeaudit"), "{printed:?}");
        assert!(printed.stderr.is_empty());
    }
    assert!(text(&run(&["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_token_that_is_issued_is_one_that_the_agent_accepts() {
    let agent = Agent::start();
    let state_dir = agent.node().state_dir();
    let state_dir = state_dir.to_str().unwrap();
    let issue = |more: &[&str]| {
        let common =
            ["token", "issue", "--dev", "--state-dir", state_dir, "--subject", "ops@example.com", "--ttl", "15m"];
        let issued = run(&[&common[..], more].concat());
        assert_eq!(issued.status.code(), Some(0), "{issued:?}");
        text(&issued.stdout).trim_end().to_owned()
    };
    let verify = |token: &str| run(&["token", "verify", "--dev", "--state-dir", state_dir, token]);

    let token = issue(&["--role", "auditor"]);
    assert_eq!(agent.call(&Request::get("/audit").bearer(&token)).status, 200);
    assert_eq!(agent.call(&Request::get("/node/hostname").bearer(&token)).status, 403);
    let report: Value = serde_json::from_slice(&verify(&token).stdout).unwrap();
    assert_eq!((&report["subject"], &report["roles"]), (&json!("ops@example.com"), &json!(["auditor"])));
    assert_eq!(report["permissions"], json!(["audit:read"]));
    let entry = agent.entry_of(&agent.call(&Request::get("/audit").bearer(&token)));
    assert_eq!((&entry["user"], &entry["token_id"]), (&report["subject"], &report["token_id"]));

    let narrow = issue(&["--permission", "node:read"]);
    assert_eq!(agent.call(&Request::get("/node/hostname").bearer(&narrow)).status, 200);
    assert_eq!(agent.call(&Request::get("/audit").bearer(&narrow)).status, 403);

    let mut other = token.clone();
    other.replace_range(other.len() - 10..other.len() - 6, "AAAA");
    let refused = verify(&other);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(65), 0), "{refused:?}");
    assert!(!text(&refused.stderr).contains(&other), "the token is not repeated");

    // From standard input, out of the list of processes.
    let mut child = command(&["token", "verify", "--dev", "--state-dir", state_dir])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{token}\n").as_bytes()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&child.wait_with_output().unwrap().stdout).unwrap(), report);
}

#[test]
fn no_token_is_issued_without_the_agents_key_and_no_key_is_made_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("state");
    let config = folder.path().join("nodeaudit.toml");
    fs::write(&config, "").unwrap();
    let arguments = ["token", "issue", "--subject", "a", "--role", "read", "--ttl", "1h", "--config"];
    let paths = [config.to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()];
    let refused = run(&[&arguments[..], &paths].concat());
    assert_eq!(refused.status.code(), Some(66), "{refused:?}");
    assert!(!state_dir.exists(), "made by the agent only, with its own user");
    let unknown_role = ["token", "issue", "--subject", "a", "--role", "root", "--ttl", "1h", "--config"];
    assert_eq!(run(&[&unknown_role[..], &paths].concat()).status.code(), Some(64));
}

#[test]
fn development_mode_listens_on_loopback_only() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("state");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = run(&["serve", "--dev", "--listen", address, "--state-dir", state_dir.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(78), "{address}: {refused:?}");
        assert!(text(&refused.stderr).contains("loopback"), "{refused:?}");
    }
    assert!(!state_dir.exists(), "nothing was made");
}

#[test]
fn an_address_in_use_is_told_and_the_ring_of_the_running_agent_is_left_alone() {
    let agent = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let address = agent.address().to_string();
    let state_dir = folder.path().join("state");
    let refused = run(&["serve", "--dev", "--listen", &address, "--state-dir", state_dir.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(text(&refused.stderr).contains(&address), "{refused:?}");
    assert_eq!(agent.call(&Request::get("/health")).status, 200);
}
