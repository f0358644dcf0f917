//! What `nodeaudit pull` needs: a list of nodes with their tokens, and a folder for what it reads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{Agent, command};

/// A list of nodes, and what was read of them.
pub(crate) struct Pulling {
    folder: TempDir,
    list: BTreeMap<String, String>,
}

impl Pulling {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), list: BTreeMap::new() }
    }

    /// One that reads this agent under that name.
    pub(crate) fn of(name: &str, agent: &Agent) -> Self {
        let mut pulling = Self::new();
        pulling.add(name, agent);
        pulling
    }

    /// Reads this agent, too, instead of another one with that name.
    pub(crate) fn add(&mut self, name: &str, agent: &Agent) {
        let url = format!("http://{}{}", agent.address(), agent.base_path);
        self.add_url(name, &url, &agent.token(&["auditor"]), "");
    }

    /// Reads what is there, too, with more lines of its own in the list.
    pub(crate) fn add_url(&mut self, name: &str, url: &str, token: &str, more: &str) {
        let token_file = self.folder.path().join(format!("{name}.token"));
        fs::write(&token_file, token).unwrap();
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
        let node = format!("[[node]]\nname = {name:?}\nurl = {url:?}\ntoken_file = \"{name}.token\"\n{more}\n");
        self.list.insert(name.to_owned(), node);
    }

    /// `nodeaudit pull`, about to run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let nodes = self.folder.path().join("nodes.toml");
        fs::write(&nodes, self.list.values().map(String::as_str).collect::<String>()).unwrap();
        fs::set_permissions(&nodes, fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = command(&["pull", "-o", "ndjson", "--nodes"]);
        command.arg(nodes).arg("--out").arg(self.out("")).args(arguments);
        command
    }

    /// Runs it, and gives what it says of each node.
    pub(crate) fn run(&self, code: i32) -> BTreeMap<String, Value> {
        let output = self.command(&[]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        told(&output)
    }

    /// A file of what was read.
    pub(crate) fn out(&self, file: &str) -> PathBuf {
        self.folder.path().join("out").join(file)
    }

    /// The lines that were read of a node: entries and gaps.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.out(&format!("{name}.ndjson"))).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "a line is whole");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The seqs that were read of a node, in their order.
    pub(crate) fn seqs(&self, name: &str) -> Vec<u64> {
        self.lines(name).iter().filter_map(|line| line["seq"].as_u64()).collect()
    }
}

/// What `nodeaudit pull -o ndjson` says of each node.
pub(crate) fn told(output: &Output) -> BTreeMap<String, Value> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let told = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    told.map(|told| (told["node"].as_str().unwrap().to_owned(), told)).collect()
}
