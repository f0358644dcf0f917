//! A whole agent in this process: real sockets, real ring.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nodeaudit::auth::{Grant, TokenIssuer};
use nodeaudit::config::Config;
use nodeaudit::host::{Changes, clock};
use nodeaudit::server::Server;
use nodeaudit::systemd::{Notifier, Sockets};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::{SECRET, key};

/// Longer than that the agent never takes, on the slowest machine.
const HANG: Duration = Duration::from_secs(8);

/// The parts in which it passes: a machine that stands still for a while takes one of them.
const PATIENCE: Duration = Duration::from_secs(1);

/// The agent of this process. It changes nothing on the machine.
pub static AGENT: LazyLock<Agent> = LazyLock::new(Agent::start);

/// An agent that serves.
pub struct Agent {
    address: SocketAddr,
    token: String,
    own_connection: Mutex<Option<BufReader<Connection>>>,
    clients: Mutex<Clients>,
    _folder: TempDir,
}

/// What a client had from the agent.
pub struct Talk {
    /// Who it was.
    pub client: Ipv4Addr,
    /// The bytes that came.
    pub answer: Vec<u8>,
    /// Whether these are all that were sent: the connection was not reset.
    pub is_whole: bool,
}

/// A connection that waits for bytes until the agent has hung.
struct Connection(TcpStream);

/// Whose entries were seen.
#[derive(Default)]
struct Clients {
    /// How many there were: each has an address of its own, so that its entries are known by it.
    count: u32,
    /// The newest entry that was looked at.
    last_seq: u64,
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let state_dir = folder.path().join("state");
        write_key(&state_dir);
        let mut config = Config { state_dir, ..Config::default() };
        config.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.server.workers = 1;
        // An input and the looks at what it left are more calls than anyone else makes.
        (config.limits.peer_per_s, config.limits.actor_per_s, config.limits.failures_per_min) = (0, 0, 0);
        // Its token lives as long as the process.
        config.auth.max_lifetime_s = 0;
        // An input has some 160 calls at most, and a fifth of the ring is what the class of most of them can be sure of.
        config.audit.max_entries = 1_000;
        // Some calls of an input are counted in an entry of others.
        config.audit.denied_entries = 16;
        config.audit.max_bytes = 4 << 20;
        let read_again = Box::new({
            let config = config.clone();
            move || Ok(config.clone())
        });
        let server = Server::start(config, Changes::Refuse, Sockets::default(), read_again)
            .expect("an agent starts on an empty folder");
        let address = server.address();
        thread::spawn(move || {
            let ended = server.run(Notifier::from_environment());
            // By a signal: the agent's handlers have taken the place of libFuzzer's.
            eprintln!("the agent has ended: {ended:?}");
            std::process::exit(130);
        });
        let roles = vec!["admin".to_owned()];
        let grant = Grant { subject: "fuzz".to_owned(), roles, lifetime_s: 1 << 30, ..Grant::default() };
        let now_s = clock::wall_clock_ms().div_euclid(1_000);
        let token = TokenIssuer::new(&key()).issue(&grant, now_s).expect("a token can be issued");
        Self { address, token, own_connection: Mutex::default(), clients: Mutex::default(), _folder: folder }
    }

    /// Sends pieces of anything as a client that nobody has seen before, says that nothing more comes, and gives all that came
    /// from the agent. The agent always ends the connection then.
    pub fn talk<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Talk {
        let client = self.new_client();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((client, 0)).into()).expect("all of 127/8 is this machine");
        // With a deadline it goes on after libFuzzer's timer has interrupted it.
        socket.connect_timeout(&self.address.into(), HANG).expect("the agent listens");
        let mut connection = Connection::new(TcpStream::from(socket));
        for piece in pieces {
            // The agent may have closed the connection already; what it said then is still read.
            if connection.0.write_all(piece).is_err() {
                break;
            }
            thread::yield_now();
        }
        let _ = connection.0.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match connection.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the connection is still open after {HANG:?}: {}", answer.escape_ascii())
            }
            // Who closes with something unread resets the connection, and what he has sent can be lost on its way.
            ended => Talk { client, answer, is_whole: ended.is_ok() },
        }
    }

    fn new_client(&self) -> Ipv4Addr {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.count += 1;
        let [_, high, middle, low] = clients.count.to_be_bytes();
        Ipv4Addr::new(127, 1 + high % 254, middle, low)
    }

    /// The entries that calls from `client` have left so far. There is none of a client that was before it: its entries
    /// have all been seen.
    pub fn entries_of(&self, client: Ipv4Addr) -> Vec<Value> {
        let since = self.clients.lock().unwrap_or_else(PoisonError::into_inner).last_seq;
        let (mut own, mut offset) = (BTreeMap::new(), 0);
        loop {
            let (status, body) = self.get(&format!("/audit?limit=100&offset={offset}"));
            assert_eq!(status, 200, "{}", body.escape_ascii());
            let mut page: Value = serde_json::from_slice(&body).expect("a page is JSON");
            let items = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let is_last = items.len() < 100 || items.iter().any(|entry| entry["seq"].as_u64() <= Some(since));
            for entry in items.into_iter().filter(|entry| entry["seq"].as_u64() > Some(since)) {
                match entry["source_ip"].as_str() {
                    Some("127.0.0.1") => {}
                    // The second is that of many calls in one entry.
                    Some(ip) if ip == client.to_string() || ip == "0.0.0.0" => {
                        own.insert(entry["seq"].as_u64(), entry);
                    }
                    _ => panic!("an entry of a client that was long gone: {entry}"),
                }
            }
            if is_last {
                return own.into_values().collect();
            }
            // New entries move the pages on: what is read twice counts once.
            offset += 100;
        }
    }

    /// All entries of the present client have been seen.
    pub fn forget(&self, entries: &[Value]) {
        let newest = entries.iter().filter_map(|entry| entry["seq"].as_u64()).max();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.last_seq = clients.last_seq.max(newest.unwrap_or(0));
    }

    /// Makes a call that is authorised for everything: status and body.
    pub fn get(&self, target: &str) -> (u16, Vec<u8>) {
        let mut own = self.own_connection.lock().unwrap_or_else(PoisonError::into_inner);
        let head = format!("GET {target} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {}\r\n\r\n", self.token);
        // On a machine that is busy with something else, the last call was longer ago than the agent keeps a connection.
        let mut connection = own.take().filter(|kept| ask(kept, &head)).unwrap_or_else(|| {
            let fresh = BufReader::new(Connection::new(TcpStream::connect(self.address).expect("the agent listens")));
            assert!(ask(&fresh, &head), "the agent closed a new connection");
            fresh
        });
        let (status, body, is_kept) = receive(&mut connection);
        if is_kept {
            *own = Some(connection);
        }
        (status, body)
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        Self(stream)
    }

    /// Waits for bytes by `wait` until there are some, the connection has ended or the agent has hung.
    fn patiently(&self, mut wait: impl FnMut(&TcpStream) -> std::io::Result<usize>) -> std::io::Result<usize> {
        let mut parts_left = HANG.as_secs() / PATIENCE.as_secs();
        loop {
            match wait(&self.0) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && parts_left > 1 => parts_left -= 1,
                ended => return ended,
            }
        }
    }
}

impl std::io::Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.patiently(|mut stream| stream.read(buffer))
    }
}

fn write_key(state_dir: &Path) {
    DirBuilder::new().mode(0o700).create(state_dir).expect("there is room for a folder");
    let path = state_dir.join("token.key");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(SECRET)).expect("there is room for a key");
    debug_assert!(fs::metadata(path).is_ok());
}

/// Whether the agent answers what is asked on a connection, and has not ended it before.
fn ask(connection: &BufReader<Connection>, head: &str) -> bool {
    let connection = connection.get_ref();
    let asked = (&connection.0).write_all(head.as_bytes());
    let first = asked.and_then(|()| connection.patiently(|stream| stream.peek(&mut [0])));
    match first {
        Ok(count) => count > 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer after {HANG:?}"),
        Err(_) => false,
    }
}

/// Reads one response to a GET: its status, its body, and whether the connection goes on.
fn receive(connection: &mut BufReader<Connection>) -> (u16, Vec<u8>, bool) {
    let mut line = || {
        let mut line = String::new();
        connection.read_line(&mut line).expect("the agent answers in time");
        line.trim_end().to_ascii_lowercase()
    };
    let status = line().split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let (mut length, mut is_chunked, mut is_kept) = (0, false, true);
    loop {
        match line().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().expect("a length"),
            Some(("transfer-encoding", "chunked")) => is_chunked = true,
            Some(("connection", "close")) => is_kept = false,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    loop {
        if is_chunked {
            let mut size = String::new();
            connection.read_line(&mut size).expect("the agent answers in time");
            length = usize::from_str_radix(size.trim_end(), 16).expect("the size of a chunk");
        }
        let start = body.len();
        body.resize(start + length, 0);
        connection.read_exact(&mut body[start..]).expect("the agent answers in time");
        if is_chunked {
            connection.read_exact(&mut [0; 2]).expect("the agent answers in time");
        }
        if !is_chunked || length == 0 {
            return (status, body, is_kept);
        }
    }
}
