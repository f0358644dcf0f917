//! What the agent tells a service manager, and what it takes from one, as systemd would see it.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;

use crate::support::{Connection, Disk, Medium, Node, Request, command, eventually};

/// One that the disk has room for.
const RING: &str = "[audit]\nmax_bytes = 16777216\n";
const DISK_BYTES: u64 = 64 << 20;

/// How long the watchdog waits, in microseconds. Short, so that the test is: nothing depends on how long it is.
const WATCHDOG_US: &str = "400000";

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// One that the agents of this node know.
    fn of(node: Node) -> (Self, Node) {
        let path = node.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (Self(socket), node.variable("NOTIFY_SOCKET", path))
    }

    /// The next message.
    fn hear(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a message within 30 s");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next message that is not only a sign of life.
    fn hear_news(&self) -> String {
        std::iter::repeat_with(|| self.hear()).find(|message| message != "WATCHDOG=1").unwrap()
    }

    /// All that has been told and not been heard.
    fn drain(&self) -> Vec<String> {
        self.0.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let told = std::iter::from_fn(|| self.0.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()));
        let told = told.map(|message| String::from_utf8(message).unwrap()).collect();
        self.0.set_nonblocking(false).unwrap();
        told
    }
}

#[test]
fn the_manager_is_told_of_readiness_reload_and_stop() {
    let (manager, node) = Manager::of(Node::new(""));
    let agent = node.start();
    let ready = manager.hear();
    let (first, status) = ready.split_once('\n').unwrap();
    assert_eq!(first, "READY=1");
    assert_eq!(status, format!("STATUS=serving {}; the audit store works", agent.address()));

    agent.hang_up();
    let reloading = manager.hear();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(since.parse::<u64>().unwrap() > 0);
    assert_eq!(manager.hear(), ready);

    agent.stop(Signal::SIGTERM);
    assert_eq!(manager.hear(), "STOPPING=1\nSTATUS=stopping");
    assert!(manager.drain().is_empty(), "without a watchdog there are no signs of life");
}

#[test]
fn an_agent_that_cannot_record_is_never_ready() {
    let (manager, node) = Manager::of(Node::new("state_dir = \"/proc/self\"\n"));
    let config = node.folder().join("nodeaudit.toml");
    let mut serve = command(&["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()]);
    let ended = serve.env("NOTIFY_SOCKET", node.folder().join("notify")).output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert!(manager.drain().is_empty());
}

#[test]
fn a_stop_that_comes_at_once_is_obeyed_and_loses_nothing() {
    for _ in 0..5 {
        let (manager, node) = Manager::of(Node::new(""));
        let agent = node.start();
        // It listens, and may not serve yet.
        let (node, log) = agent.stop(Signal::SIGTERM);
        assert!(log.contains("stopping"), "{log}");
        assert!(manager.drain().iter().any(|message| message.starts_with("STOPPING=1")));
        drop(node);
    }
}

#[test]
fn the_watchdog_is_fed_only_while_the_writer_moves_on() {
    let (manager, node) = Manager::of(Node::new(RING).variable("WATCHDOG_USEC", WATCHDOG_US));
    let Some(disk) = Disk::new(&node, Medium::Sound, DISK_BYTES) else { return };
    let agent = node.start();
    assert!(manager.hear().starts_with("READY=1"));
    assert_eq!(manager.hear(), "WATCHDOG=1");

    let held = disk.hang();
    let change = Request::new("PUT", "/node/timezone").json(r#"{"timezone": "No/Where"}"#);
    let change = change.bearer(&agent.token(&["admin"]));
    // Nobody waits for longer than that for a commit; the agent waits on.
    let refusal = agent.call(&change);
    assert_eq!(refusal.status, 503, "{}", refusal.text());
    let status = manager.hear_news();
    assert!(status.starts_with("STATUS=serving") && status.contains("changes are refused"), "{status}");
    manager.drain();
    // The workers turn: it is not for want of time that nothing comes.
    for _ in 0..3 {
        assert_eq!(agent.call(&change).status, 503);
        assert_eq!(agent.call(&Request::get("/health")).status, 200);
    }
    assert!(
        !manager.drain().iter().any(|message| message == "WATCHDOG=1"),
        "the agent can't record and says that it lives"
    );

    drop(held);
    eventually("a sign of life", || manager.drain().iter().any(|message| message == "WATCHDOG=1").then_some(()));
    let (_, log) = agent.stop(Signal::SIGTERM);
    assert_eq!(log.matches("the watchdog is told nothing more").count(), 1, "{log}");
}

/// Has the agents of a node start with this listener as systemd passes it.
fn pass(node: Node, listener: &TcpListener) -> Node {
    fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let number = listener.as_raw_fd();
    let script = format!("exec 3<&{number}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http; exec \"$@\"");
    node.launched(&["/bin/bash", "-c", &script, "bash"])
}

#[test]
fn who_connects_while_the_agent_restarts_is_served_by_the_next_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut node = pass(Node::new(""), &listener);
    for _ in 0..3 {
        let mut early = Connection::open(address);
        let agent = node.start();
        assert_eq!(agent.address(), address, "the passed socket is served instead of the configured one");
        let response = early.call(&Request::get("/health"));
        assert_eq!(response.status, 200);
        assert_eq!(agent.entry_of(&response)["operation_id"], "GetHealth");
        node = agent.stop(Signal::SIGTERM).0;
    }
}

#[test]
fn a_passed_socket_is_no_way_around_tls() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let (_, log) = pass(Node::new(""), &listener).try_start().err().expect("tokens could be read on their way");
    assert!(log.contains("passed, is not a loopback address") && log.contains("server.plaintext"), "{log}");
    let agent = pass(Node::new("server.plaintext = \"allow\"\n"), &listener).start();
    assert_eq!(agent.address(), listener.local_addr().unwrap());
}

#[test]
fn what_is_passed_and_no_socket_is_refused_by_name() {
    let node = Node::new("").launched(&[
        "/bin/bash",
        "-c",
        "exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"",
        "bash",
    ]);
    let (_, log) = node.try_start().err().expect("it has nothing to serve on");
    assert!(log.contains("can't use what the service manager passed"), "{log}");
    assert!(log.contains("no socket was passed as descriptor 3"), "{log}");
}
