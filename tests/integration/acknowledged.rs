//! The program with which a board maker checks his flash tells what is there and what is not.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use crate::support::{Agent, BINARY, Node, eventually};

/// The example, which `cargo test` builds too. None where only this test was built.
fn program(agent: &Agent) -> Option<Command> {
    let program = Path::new(BINARY).with_file_name("examples").join("acknowledged");
    if !program.exists() {
        eprintln!("SKIPPED: {} is missing; `cargo build --example acknowledged` makes it", program.display());
        return None;
    }
    let mut command = Command::new(program);
    command.env("TOKEN", agent.token(&["admin"]));
    Some(command)
}

fn verify(agent: &Agent, file: &Path) -> Output {
    program(agent).unwrap().args(["verify", &agent.address().to_string()]).arg(file).output().unwrap()
}

#[test]
fn a_board_maker_learns_which_answered_entries_are_missing() {
    let agent = Node::new("").start();
    let file = agent.node().folder().join("answers");
    let Some(mut record) = program(&agent) else { return };
    record.args(["record", &agent.address().to_string()]).arg(&file).arg("4").stdout(Stdio::null());
    let mut record = record.spawn().unwrap();
    let lines = || fs::read_to_string(&file).map_or(0, |answers| answers.lines().count());
    eventually("some answers", || (lines() >= 50).then_some(()));
    let (node, _) = agent.stop(Signal::SIGKILL);
    assert!(record.wait().unwrap().success(), "it ends when the node is gone");

    let agent = node.start();
    let verified = verify(&agent, &file);
    assert!(verified.status.success(), "{verified:?}");

    let unknown = "019a6f3e-4f52-7a51-8000-00000000ffff";
    writeln!(fs::File::options().append(true).open(&file).unwrap(), "1 {unknown}").unwrap();
    let verified = verify(&agent, &file);
    assert!(!verified.status.success() && String::from_utf8_lossy(&verified.stdout).contains(unknown), "{verified:?}");
}
