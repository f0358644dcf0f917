//! What `nodeaudit support-bundle` tells those who help, and what it keeps from them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::support::{Authority, Node, Request, command, skipped};

/// What a caller or an operator keeps to himself.
const SECRET: &str = "HUNTER2-correct-horse-battery-staple";

fn bundle_of(node: &Node) -> Output {
    let config = node.folder().join("nodeaudit.toml");
    let (config, state_dir) = (config.to_str().unwrap().to_owned(), node.state_dir());
    let state_dir = state_dir.to_str().unwrap();
    command(&["support-bundle", "--config", &config, "--state-dir", state_dir])
        .env("SECRET_OF_THE_SHELL", SECRET)
        .output()
        .unwrap()
}

/// A node whose agent has served and ended.
fn served() -> Node {
    let agent = Node::new("").start();
    agent.read("/audit/status");
    agent.stop(Signal::SIGTERM).0
}

fn text(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn a_support_bundle_says_what_runs_here_and_holds_no_secret() {
    let own = Authority::new().issue("node");
    let node = Node::new("");
    let at = node.folder().to_owned();
    let write = |name: &str, text: &str| {
        fs::write(at.join(name), text).unwrap();
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    fs::create_dir(node.state_dir()).unwrap();
    fs::set_permissions(node.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    write("state/tls.key", &own.key);
    write("state/tls.crt", &own.certificate);
    write("nodeaudit.toml", "audit.max_entries = 4321\n");
    let agent = node.start();
    let token = agent.token(&["admin"]);
    agent.call(&Request::get(&format!("/node/hostname?key={SECRET}")).header("User-Agent", SECRET).bearer(&token));
    agent.call(&Request::get("/node/hostname").bearer(SECRET));

    let told = bundle_of(agent.node());
    let told = text(&told);
    let epoch = agent.read("/audit/status")["epoch"].as_str().unwrap().to_owned();
    for part in ["max_entries = 4321", "token.key", "ring.sqlite", "tls.key", epoch.as_str(), "kernel_release"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    let key = fs::read_to_string(agent.node().state_dir().join("token.key")).unwrap();
    let inner_key = own.key.lines().nth(1).unwrap();
    let subject = "tester@example.com";
    for secret in [SECRET, &token, token.rsplit('.').next().unwrap(), key.trim(), inner_key, subject] {
        assert!(!told.contains(secret), "it holds {secret}");
    }
}

#[test]
fn a_support_bundle_is_made_of_a_node_that_does_not_start() {
    let node = served();
    fs::write(node.folder().join("nodeaudit.toml"), "audit.max_entires = 1\n").unwrap();
    fs::write(node.state_dir().join("ring.sqlite"), "no ring").unwrap();
    let told = bundle_of(&node);
    let told = text(&told);
    assert!(told.contains("unknown key `max_entires`") && told.contains("not available: "), "{told}");

    fs::remove_dir_all(node.state_dir()).unwrap();
    assert!(text(&bundle_of(&node)).contains("No such file or directory"));
}

#[test]
fn a_support_bundle_that_root_makes_leaves_nothing_of_roots_in_the_state_folder() {
    if !geteuid().is_root() {
        skipped("only root can give a state folder to another user");
        return;
    }
    let node = served();
    let theirs = |path: &Path| chown(path, Some(65_534), Some(65_534)).unwrap();
    let files = || fs::read_dir(node.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    fs::set_permissions(node.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    theirs(&node.state_dir());
    files().for_each(|file| theirs(&file));
    assert!(text(&bundle_of(&node)).contains("epoch"));
    for file in files() {
        assert_eq!(fs::metadata(&file).unwrap().uid(), 65_534, "{}", file.display());
    }
}
