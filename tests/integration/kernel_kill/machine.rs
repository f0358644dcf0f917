//! A virtual machine in which the agent is the only program, and its disk, which outlives the machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Agent, BINARY, Node, skipped};

/// The builder ends with this code where this machine can't have the pieces.
const CANNOT: i32 = 77;

/// What an emulated processor may take to boot on a machine that has other work.
const BOOT: Duration = Duration::from_mins(3);

/// Where the pieces are kept for the next run.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/kernel-kill");

/// The ring's own bound is below the disk's size, and holds the entries of a thousand rounds.
const CONFIG: &str = r#"
state_dir = "/state/agent"
[server]
listen = "0.0.0.0:8080"
plaintext = "allow"
# A change that is held must not end by itself, however slow the emulated processor is.
body_timeout_ms = 600000
handler_timeout_s = 3600
[limits]
peer_per_s = 0
actor_per_s = 0
[audit]
max_bytes = 33554432
read.durability = "strict"
denied.durability = "strict"
"#;
const DISK_SIZE: &str = "96M";

/// A machine that is switched off.
pub(crate) struct Machine {
    /// The folder with the kernel and what boots it.
    pieces: PathBuf,
    /// Its folder holds the disk, its state folder a copy of the key, and the ring file as the last kernel left it.
    pub(crate) node: Node,
}

/// A machine whose agent serves.
pub(crate) struct Running {
    pieces: PathBuf,
    pub(crate) agent: Agent,
}

impl Machine {
    /// One with an empty ring. None where the pieces can't be had; it says so loudly.
    pub(crate) fn new() -> Option<Self> {
        let pieces = build()?;
        let node = Node::new("");
        let content = node.folder().join("content");
        fs::create_dir_all(content.join("agent")).unwrap();
        fs::create_dir(node.state_dir()).unwrap();
        fs::write(content.join("nodeaudit.toml"), CONFIG).unwrap();
        for key in [content.join("agent/token.key"), node.state_dir().join("token.key")] {
            fs::write(&key, "7".repeat(64)).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let machine = Self { pieces, node };
        run(program("mke2fs").args(["-q", "-t", "ext4", "-d"]).args([&content, &machine.disk()]).arg(DISK_SIZE));
        Some(machine)
    }

    /// Boots with these parameters of the kernel, and returns when the agent listens.
    pub(crate) fn boot(self, parameters: &str) -> Running {
        let control = self.node.folder().join("control");
        let mut command = Command::new(self.pieces.join("qemu"));
        // Emulated everywhere: on many virtual machines /dev/kvm is there, and guests hang.
        command.args("-machine q35 -accel tcg -cpu max -m 512 -nodefaults -display none -no-reboot".split(' '));
        command.args(["-serial", "stdio", "-qmp", &format!("unix:{},server=on,wait=off", control.display())]);
        command.arg("-kernel").arg(self.pieces.join("kernel")).arg("-initrd").arg(self.pieces.join("initrd"));
        command.args(["-append", &format!("console=ttyS0 quiet panic=-1 {parameters}")]);
        // A write that the guest knows to be done is in the page cache of this machine: what a kill takes is the guest's memory.
        command.args(["-drive", &format!("file={},format=raw,if=virtio,cache=writeback", self.disk().display())]);
        command.args(["-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:8080"]);
        command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        let mut process = Process(Some(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()));
        let console = process.0.as_mut().unwrap().stdout.take().unwrap();
        await_line(console, "listening on http://");
        let address = forwarded_address(&control);
        Running { pieces: self.pieces, agent: Agent::elsewhere(self.node, process.0.take().unwrap(), address) }
    }

    fn disk(&self) -> PathBuf {
        self.node.folder().join("disk")
    }

    /// Reads the disk as its next mount would, on a copy: the journal is replayed. Then all of the file system has to be sound.
    fn copy_ring(&self) {
        let copy = self.node.folder().join("copy");
        run(program("cp").arg("--sparse=always").args([&self.disk(), &copy]));
        let checked = program("e2fsck").args(["-p", "-f"]).arg(&copy).output().unwrap();
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        let name = nodeaudit::audit::ring::FILE_NAME;
        for name in [name.to_owned(), format!("{name}-wal")] {
            let target = self.node.state_dir().join(&name);
            let dump = format!("dump /agent/{name} {}", target.display());
            run(program("debugfs").args(["-R", &dump]).arg(&copy));
        }
    }
}

impl Running {
    /// Ends the kernel, and with it the agent, without a farewell.
    pub(crate) fn kill(self) -> Machine {
        let (node, _) = self.agent.stop(Signal::SIGKILL);
        let machine = Machine { pieces: self.pieces, node };
        machine.copy_ring();
        machine
    }

    /// Waits until the machine has gone down by itself.
    pub(crate) fn await_end(self) -> Machine {
        Machine { pieces: self.pieces, node: self.agent.await_end() }
    }
}

/// A machine that boots. It does not outlive its test.
struct Process(Option<Child>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut process) = self.0.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Gets or finds the pieces, and gives their folder.
fn build() -> Option<PathBuf> {
    let builder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kernel/build");
    let built = Command::new(builder).arg(FOLDER).arg(BINARY).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    if built.status.code() == Some(CANNOT) {
        skipped(&format!("no kernel can be booted here: {said}"));
        return None;
    }
    assert!(built.status.success(), "{said}");
    Some(String::from_utf8(built.stdout).unwrap().trim_end().into())
}

/// Reads what the machine writes to its console until that is part of it, and goes on reading in a thread, so that the machine
/// never waits.
fn await_line(console: impl Read + Send + 'static, part: &str) {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
    let deadline = Instant::now() + BOOT;
    let mut seen = String::new();
    while !seen.contains(part) {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => seen.extend([line.as_str(), "\n"]),
            Err(why) => panic!("the machine does not boot ({why}): {seen}"),
        }
    }
}

/// Asks the emulator which port of this machine it chose for that of the agent.
fn forwarded_address(control: &Path) -> SocketAddr {
    let mut stream = UnixStream::connect(control).unwrap();
    stream.set_read_timeout(Some(BOOT)).unwrap();
    let question = json!({"execute": "human-monitor-command", "arguments": {"command-line": "info usernet"}});
    write!(stream, "{}\n{question}\n", json!({"execute": "qmp_capabilities"})).unwrap();
    // A greeting, the answer to the first command, the answer to the second one.
    let answer = BufReader::new(stream).lines().nth(2).unwrap().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let table = answer["return"].as_str().unwrap();
    let row = table.lines().find(|line| line.contains("HOST_FORWARD")).unwrap();
    let fields: Vec<_> = row.split_whitespace().collect();
    format!("{}:{}", fields[2], fields[3]).parse().unwrap()
}

/// A program of this machine; those for file systems may be where only root looks.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
