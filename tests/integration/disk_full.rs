//! Something else fills the disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{Agent, Connection, Node, Request, assert_is_error, can_isolate, eventually, skipped};

/// A file system of this size under a node's state folder. It goes with its test.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// None where this machine lets nobody mount; it says so loudly.
    fn mount(node: &Node, bytes: u64) -> Option<Self> {
        if !can_isolate(&["/bin/mount", "/bin/umount"]) {
            return None;
        }
        let folder = node.state_dir();
        fs::create_dir(&folder).unwrap();
        let options = format!("size={bytes},mode=0700");
        let mounted = Command::new("/bin/mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).status();
        if !mounted.unwrap().success() {
            skipped("this machine does not let its root mount a tmpfs");
            return None;
        }
        Some(Self { folder })
    }

    fn fill(&self) {
        let mut filler = File::create(self.folder.join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    /// Of a disk that is full, so much is free again.
    fn leave(&self, bytes: u64) {
        let filler = File::options().write(true).open(self.folder.join("filler")).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - bytes).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("/bin/umount").args(["-l".as_ref(), self.folder.as_os_str()]).status();
        assert!(unmounted.unwrap().success() || std::thread::panicking());
    }
}

fn load(agent: &Agent) -> Request {
    Request::get("/node/load").bearer(&agent.token(&["admin"]))
}

#[test]
fn the_ring_goes_on_when_something_else_has_filled_the_disk() {
    let node = Node::new("[audit]\nmax_entries = 3000\nmax_bytes = 2097152\n");
    let Some(disk) = SmallDisk::mount(&node, 4 << 20) else { return };
    let agent = node.start();
    assert_eq!(agent.call(&load(&agent)).status, 200);
    disk.fill();
    let mut connection = Connection::open(agent.address());
    let request = load(&agent);
    for _ in 0..10_000 {
        assert_eq!(connection.call(&request).status, 200);
    }
    let status = agent.read("/audit/status");
    assert_eq!(status["health"], "ok", "{status}");
    assert_eq!(status["dropped"], 0, "{status}");
    assert!(status["evicted"].as_u64() > Some(6_000), "{status}");
    assert_eq!(status["last_seq"], 10_001, "{status}");
    assert!(status["bytes"].as_u64() <= status["max_bytes"].as_u64(), "{status}");
}

#[test]
fn a_ring_that_can_not_be_compacted_is_gone_on_with_and_compacted_when_there_is_room() {
    const LOWERED_BYTES: u64 = 4 << 20;
    let node = Node::new("[audit]\nmax_entries = 20000\nmax_bytes = 8388608\n");
    let Some(disk) = SmallDisk::mount(&node, 32 << 20) else { return };
    let agent = node.start();
    let mut connection = Connection::open(agent.address());
    let token = agent.token(&["read"]);
    let mut paths = (0..).map(|number| format!("/{number:01000}"));
    while agent.read("/audit/status")["evicted"] == 0 {
        for path in paths.by_ref().take(500) {
            connection.call(&Request::get(&path).bearer(&token));
        }
    }
    let (node, _) = agent.stop(Signal::SIGTERM);
    let size = |agent: &Agent| fs::metadata(agent.node().state_dir().join("ring.sqlite")).unwrap().len();
    disk.fill();
    // What any start needs, and less than a copy does.
    disk.leave(1 << 20);
    let agent = node.variable("NODEAUDIT_AUDIT__MAX_BYTES", LOWERED_BYTES.to_string()).start();
    assert!(size(&agent) > LOWERED_BYTES);
    let response = agent.call(&load(&agent));
    assert_eq!(agent.entry_of(&response)["operation_id"], "GetNodeLoad", "it records all the same");
    let (node, log) = agent.stop(Signal::SIGTERM);
    assert!(log.contains("keeps its size until the next start"), "{log}");
    disk.free();
    let agent = node.start();
    assert!(size(&agent) <= LOWERED_BYTES, "{} bytes", size(&agent));
    assert_eq!(agent.entry_of(&response)["operation_id"], "GetNodeLoad");
}

#[test]
fn a_store_that_fails_refuses_changes_up_front_and_resumes_by_itself() {
    // The ring may grow beyond the disk, so its space can't be reserved.
    let node = Node::new("[audit]\nmax_bytes = 67108864\n[audit.read]\ndurability = \"strict\"\n");
    let Some(disk) = SmallDisk::mount(&node, 4 << 20) else { return };
    let agent = node.start();
    let admin = agent.token(&["admin"]);
    disk.fill();
    let ready = || agent.call(&Request::get("/health/ready"));
    eventually("a store that fails", || {
        agent.call(&load(&agent));
        (ready().status == 503).then_some(())
    });

    let change = Request::new("POST", "/node/power/reboot").bearer(&admin);
    let refusal = assert_is_error(&agent.call(&change), 503);
    assert!(refusal.contains("can't be recorded"), "{refusal}");
    let refusal = assert_is_error(&agent.call(&load(&agent)), 503);
    assert!(refusal.contains("can't be recorded"), "{refusal}");
    assert_eq!(agent.call(&Request::get("/health")).status, 200);
    let told = agent.read("/audit/status");
    assert_eq!(told["health"], "failing", "{told}");
    assert!(told["failure"].as_str().unwrap().contains("full"), "{told}");

    disk.free();
    eventually("a store that works again", || (ready().status == 200).then_some(()));
    let refused = agent.call(&change);
    assert!(!assert_is_error(&refused, 503).contains("can't be recorded"), "--dev refuses it now, not the store");
    assert_eq!(agent.entry_of(&refused)["class"], "change");
    assert_eq!(agent.call(&load(&agent)).status, 200);
}
