//! The shipped configuration, and what the agent does with a configuration and with its files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use crate::support::{Agent, Node, Request, run};

fn check_config(file: &Path) -> Output {
    run(&["check-config", "--config", file.to_str().unwrap()])
}

#[test]
fn the_shipped_configuration_is_accepted_and_says_nothing_but_the_defaults() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/nodeaudit.toml");
    let checked = check_config(&shipped);
    assert_eq!((checked.status.code(), checked.stdout.as_slice()), (Some(0), b"ok\n".as_slice()), "{checked:?}");
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.toml");
    fs::write(&empty, "").unwrap();
    let show = |file: &Path| run(&["config", "show", "--config", file.to_str().unwrap()]).stdout;
    assert_eq!(show(&shipped), show(&empty));

    // With every key that it comments out put in force, it is accepted all the same: each stands where it belongs.
    let text = fs::read_to_string(&shipped).unwrap();
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let keys: Vec<_> = text.lines().filter(|line| is_key(line)).collect();
    assert!(keys.len() > 20, "{keys:?}");
    let in_force: Vec<_> = text.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
    let all = folder.path().join("all.toml");
    fs::write(&all, in_force.join("\n")).unwrap();
    assert_eq!(show(&all), show(&empty), "a commented value is not the default");
}

#[test]
fn what_config_show_prints_is_a_configuration_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.toml");
    fs::write(&file, "audit.max_entries = 12345\n[auth.roles]\noperator = [\"node:read\"]\n").unwrap();
    let show = |file: &Path| run(&["config", "show", "--config", file.to_str().unwrap()]).stdout;
    let shown = show(&file);
    let text = String::from_utf8(shown.clone()).unwrap();
    assert!(text.contains("12345") && text.contains("operator"), "{text}");
    let again = folder.path().join("again.toml");
    fs::write(&again, &shown).unwrap();
    assert_eq!(show(&again), shown);
}

#[test]
fn a_refused_configuration_names_every_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodeaudit.toml");
    fs::write(&file, "state_dir = \"/var/lib/x\"\n\n[audit]\nmax_entires = 5\nmax_bytes = 7\n").unwrap();
    let drop_ins = folder.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("10-own.toml"), "[server]\nlisten = \"nowhere\"\n").unwrap();
    let refused = check_config(&file);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(refused.stdout.is_empty());
    let told = String::from_utf8(refused.stderr).unwrap();
    for place in [
        ("nodeaudit.toml:4", "max_entires"),
        ("nodeaudit.toml:5", "audit.max_bytes"),
        ("10-own.toml:2", "server.listen"),
    ] {
        assert!(told.lines().any(|line| line.contains(place.0) && line.contains(place.1)), "{place:?} in {told}");
    }
    let started = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(started.status.code(), Some(78), "the agent does not start with it");
}

#[test]
fn a_configuration_that_is_no_toml_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodeaudit.toml");
    fs::write(&file, "[audit]\nmax_entries = \n").unwrap();
    let refused = check_config(&file);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("nodeaudit.toml:2"));
    let missing = check_config(&folder.path().join("missing.toml"));
    assert_eq!(missing.status.code(), Some(66), "{missing:?}");
}

#[test]
fn state_is_for_the_agents_user_alone() {
    let agent = Agent::start();
    agent.call(&Request::get("/health"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let state_dir = agent.node().state_dir();
    assert_eq!(mode(&state_dir), 0o700);
    let files: Vec<_> = fs::read_dir(&state_dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 3, "ring, WAL and key at least: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn without_a_key_a_production_agent_makes_one_for_itself_alone() {
    // A tree of its own instead of the machine's: nothing outside can be changed, whoever calls.
    let folder = tempfile::tempdir().unwrap();
    let boot_id = folder.path().join("root/proc/sys/kernel/random");
    fs::create_dir_all(&boot_id).unwrap();
    fs::write(boot_id.join("boot_id"), "0b0a3a0e-6a5c-4f0e-8b5e-0d3f6c1f7c55\n").unwrap();
    let config = format!("host.root = {:?}\n", folder.path().join("root"));
    let agent = Node::new(&config).production().start();
    let state_dir = agent.node().state_dir();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&state_dir), mode(&state_dir.join("token.key"))), (0o700, 0o600));
    assert_eq!(agent.call(&Request::get("/version")).status, 401, "without a token nothing but health");
    assert_eq!(agent.call(&Request::get("/version").bearer(&agent.token(&["read"]))).status, 200);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let agent = Agent::start();
    // Once it has answered, it listens to signals too.
    agent.call(&Request::get("/health"));
    let (node, output) = agent.stop(nix::sys::signal::Signal::SIGTERM);
    assert!(output.contains("serves http://127.0.0.1:"), "{output}");
    let key = node.state_dir().join("token.key");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let refused =
        run(&["serve", "--dev", "--listen", "127.0.0.1:0", "--state-dir", node.state_dir().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(77), "{refused:?}");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("chmod 600"), "it says what to do: {told}");
}

#[test]
fn each_source_of_the_configuration_wins_over_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodeaudit.toml");
    fs::write(&file, "audit.max_entries = 1001\nserver.workers = 1\nstate_dir = \"/from/file\"\n").unwrap();
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    fs::write(folder.path().join("conf.d/a.toml"), "audit.max_entries = 1002\nserver.workers = 2\n").unwrap();
    fs::write(folder.path().join("conf.d/b.toml"), "audit.max_entries = 1003\n").unwrap();
    let mut command = crate::support::command(&["config", "show", "--config", file.to_str().unwrap()]);
    let shown =
        command.args(["--state-dir", "/from/flag"]).env("NODEAUDIT_AUDIT__MAX_ENTRIES", "1004").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for line in ["max_entries = 1004", "workers = 2", "state_dir = \"/from/flag\""] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}
