//! Nodes and the agents that run on them.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use jsonwebtoken::{EncodingKey, Header};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nodeaudit::auth::{Grant, Permission, SigningKey, TokenIssuer};
use serde_json::Value;
use tempfile::TempDir;

use super::http::{Connection, Request, Response};
use super::killed::Killed;
use super::tls::TlsClient;
use super::{eventually, now_s};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_nodeaudit");

/// Whom the tokens of tests name.
pub(crate) const SUBJECT: &str = "tester@example.com";

/// A folder with a configuration and the agent's state, which outlives the agents that run on it.
pub(crate) struct Node {
    folder: TempDir,
    /// The agent's binary.
    binary: OsString,
    /// Command and arguments before the agent's own: none, or what isolates it.
    launcher: Vec<OsString>,
    arguments: Vec<&'static str>,
    listen: SocketAddr,
    /// What stands in the environment of the agent beside a path.
    environment: Vec<(&'static str, OsString)>,
    tls: Option<TlsClient>,
    /// What the tokens of tests are signed with, where that is not the key that the agent makes, and what they say beside the rest.
    signing: Option<(SigningKey, Grant)>,
}

impl Node {
    /// A node with this configuration, on which no call changes anything.
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("nodeaudit.toml"), config).unwrap();
        Self {
            folder,
            binary: BINARY.into(),
            launcher: Vec::new(),
            arguments: vec!["--dev"],
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            environment: Vec::new(),
            tls: None,
            signing: None,
        }
    }

    /// The agent is started as on a node in production. It can change what it manages: the configuration must name another root.
    pub(crate) fn production(mut self) -> Self {
        self.arguments.retain(|&argument| argument != "--dev");
        self
    }

    /// The agent is started by this command and changes the node that it finds itself on.
    pub(crate) fn isolated(mut self, launcher: &[impl AsRef<str>]) -> Self {
        assert!(!launcher.is_empty(), "without isolation the agent would change the machine that runs the tests");
        self.launcher = launcher.iter().map(|part| part.as_ref().into()).collect();
        self.arguments.push("--apply-changes");
        self
    }

    /// The agent is started by this command, which watches it or stands in its way.
    pub(crate) fn launched(mut self, launcher: &[impl AsRef<std::ffi::OsStr>]) -> Self {
        self.launcher.splice(0..0, launcher.iter().map(|part| part.as_ref().into()));
        self
    }

    /// The agent is started by nothing but itself again.
    pub(crate) fn alone(mut self) -> Self {
        self.launcher.clear();
        self
    }

    /// The agent is another build of it.
    pub(crate) fn binary(mut self, binary: impl Into<OsString>) -> Self {
        self.binary = binary.into();
        self
    }

    /// The agent is started with this variable in its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// The agent listens there, and not on any port of the loopback.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The agent is called over TLS.
    pub(crate) fn over_tls(mut self, client: TlsClient) -> Self {
        self.tls = Some(client);
        self
    }

    /// Tokens of this test are signed with `key` and have the issuer and the audience of `grant`.
    pub(crate) fn signing(mut self, key: SigningKey, grant: Grant) -> Self {
        self.signing = Some((key, grant));
        self
    }

    /// The folder that holds all of the node.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The agent's state folder.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// Starts an agent and returns when it listens.
    pub(crate) fn start(self) -> Agent {
        self.try_start().unwrap_or_else(|(_, log)| panic!("the agent ended: {log}"))
    }

    /// The same at that address, which an agent had before.
    pub(crate) fn start_at(self, address: SocketAddr) -> Agent {
        self.at(address).start()
    }

    /// The same where the node may be broken: an agent that ends instead of listening gives the node back, and what it said.
    #[expect(clippy::result_large_err, reason = "a node is moved once for each start")]
    pub(crate) fn try_start(self) -> Result<Agent, (Self, String)> {
        let mut line = self.launcher.clone();
        line.push(self.binary.clone());
        line.extend(["serve", "--listen", &self.listen.to_string(), "--config"].map(OsString::from));
        line.push(self.folder().join("nodeaudit.toml").into());
        line.push("--state-dir".into());
        line.push(self.state_dir().into());
        line.extend(self.arguments.iter().map(OsString::from));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());

        let stdout = child.0.stdout.take().unwrap();
        let mut stderr = BufReader::new(child.0.stderr.take().unwrap());
        let mut log = String::new();
        let (address, base_path) = loop {
            let begin = log.len();
            if stderr.read_line(&mut log).unwrap() == 0 {
                return Err((self, log));
            }
            if let Some((_, url)) =
                log[begin..].split_once("listening on http").map(|(_, url)| url.split_once("://").unwrap())
            {
                let (url, _) = url.split_once(',').unwrap();
                let (address, base_path) = url.split_at(url.find('/').unwrap_or(url.len()));
                break (address.parse().unwrap(), base_path.to_owned());
            }
        };
        let output = vec![keep(stdout, String::new()), keep(stderr, log)];
        // It is read from a disk that may have failed since.
        let signing = match &self.signing {
            Some(signing) => Ok(signing.clone()),
            None => SigningKey::load(&self.state_dir().join("token.key")).map(|key| (key, Grant::default())),
        };
        let (key, grant) = match signing {
            Ok(signing) => signing,
            Err(error) => return Err((self, error.to_string())),
        };
        Ok(Agent { node: Some(self), child, address, base_path, output, key, grant })
    }
}

/// A running agent. It ends with its test.
pub(crate) struct Agent {
    node: Option<Node>,
    child: Killed,
    address: SocketAddr,
    /// As configured: what stands before every path.
    pub(crate) base_path: String,
    output: Vec<JoinHandle<String>>,
    key: SigningKey,
    /// What its tokens say beside the rest.
    grant: Grant,
}

impl Agent {
    /// On a node of its own without configuration.
    pub(crate) fn start() -> Self {
        Node::new("").start()
    }

    /// One that runs on another machine: the process that is this machine, and where the agent in it is reached. The node's state
    /// folder holds a copy of its key.
    pub(crate) fn elsewhere(node: Node, machine: Child, address: SocketAddr) -> Self {
        let child = Killed(machine);
        let key = SigningKey::load(&node.state_dir().join("token.key")).unwrap();
        Self {
            node: Some(node),
            child,
            address,
            base_path: String::new(),
            output: Vec::new(),
            key,
            grant: Grant::default(),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// The process that was started: the agent, or what isolates it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// The agent's own process, whatever started it; what was started, where there is none on this machine.
    pub(crate) fn process(&self) -> Pid {
        // Where the agent is elsewhere, it is in what this process emulates.
        self.try_process().unwrap_or_else(|| Pid::from_raw(self.pid().try_into().unwrap()))
    }

    fn try_process(&self) -> Option<Pid> {
        let mut found = vec![self.pid()];
        while let Some(pid) = found.pop() {
            let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            if of("comm").trim_end() == "nodeaudit" {
                return Some(Pid::from_raw(pid.try_into().unwrap()));
            }
            let children = of(&format!("task/{pid}/children"));
            found.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
        }
        None
    }

    /// Makes a call on a connection of its own.
    pub(crate) fn call(&self, request: &Request) -> Response {
        self.connect().call(request)
    }

    /// A connection as the node is configured to have them.
    pub(crate) fn connect(&self) -> Connection {
        match &self.node().tls {
            Some(client) => Connection::open_tls(self.address, client),
            None => Connection::open(self.address),
        }
    }

    /// Reads with a token that may do everything, and gives the body of the answer, which must be 200. The path is one below
    /// the base path.
    pub(crate) fn read(&self, path: &str) -> Value {
        let path = format!("{}{path}", self.base_path);
        let response = self.call(&Request::get(&path).bearer(&self.token(&["admin"])));
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// The entry that a response names, once it is stored: a busy disk may take longer than a reader is kept waiting.
    pub(crate) fn entry_of(&self, response: &Response) -> Value {
        let path = format!("{}/audit/{}", self.base_path, response.audit_id());
        let answer = eventually("a stored entry", || {
            Some(self.call(&Request::get(&path).bearer(&self.token(&["admin"])))).filter(|answer| answer.status != 503)
        });
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["entry"].take()
    }

    /// A token with these roles.
    pub(crate) fn token(&self, roles: &[&str]) -> String {
        self.issue(roles, None)
    }

    /// A token with these permissions and nothing else.
    pub(crate) fn token_for(&self, permissions: &[Permission]) -> String {
        self.issue(&["admin"], Some(permissions.to_vec()))
    }

    fn issue(&self, roles: &[&str], permissions: Option<Vec<Permission>>) -> String {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        let grant = Grant { subject: SUBJECT.to_owned(), roles, permissions, lifetime_s: 600, ..self.grant.clone() };
        TokenIssuer::new(&self.key).issue(&grant, now_s()).unwrap()
    }

    /// A token with any claims, signed with the node's key. It is issued now, unless the claims say otherwise.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().entry("iat").or_insert_with(|| now_s().into());
        let secret = fs::read_to_string(self.node().state_dir().join("token.key")).unwrap();
        sign(&claims, secret.trim_end().as_bytes())
    }

    /// Has everything read again, and does not wait for it.
    pub(crate) fn hang_up(&self) {
        kill(self.process(), Signal::SIGHUP).unwrap();
    }

    /// Has the agent read its files again, and gives what the status says of it then. `token` is one that it accepts afterwards, and
    /// `count` how many reloads it has done and refused since its start, this one included.
    pub(crate) fn reload(&self, token: &str, count: (u64, u64)) -> Value {
        self.hang_up();
        eventually("the reload in the status", || {
            let response = self.call(&Request::get("/audit/status").bearer(token));
            let mut status = (response.status == 200).then(|| response.json()["configuration"].take())?;
            let done = [&status["reloads"], &status["refused"]].map(|number| number.as_u64().unwrap());
            (count == (done[0], done[1])).then(|| status.take())
        })
    }

    /// How the agent ended by itself.
    pub(crate) fn await_status(mut self) -> ExitStatus {
        self.child.0.wait().unwrap()
    }

    /// Waits until the agent has ended by itself.
    pub(crate) fn await_end(mut self) -> Node {
        self.child.0.wait().unwrap();
        self.node.take().unwrap()
    }

    /// Kills the agent, which may have died already, and gives the same as [`Agent::stop`].
    pub(crate) fn end(mut self) -> (Node, String) {
        if let Some(process) = self.try_process() {
            let _ = kill(process, Signal::SIGKILL);
        }
        let _ = self.child.0.kill();
        self.child.0.wait().unwrap();
        let output = self.output.drain(..).map(|output| output.join().unwrap()).collect();
        (self.node.take().unwrap(), output)
    }

    /// Sends a signal to the agent and waits for its end. Gives the node and all that the agent wrote to its terminal.
    pub(crate) fn stop(mut self, signal: Signal) -> (Node, String) {
        kill(self.process(), signal).unwrap();
        let status = self.child.0.wait().unwrap();
        assert_eq!(status.success(), signal != Signal::SIGKILL, "{status}");
        let output = self.output.drain(..).map(|output| output.join().unwrap()).collect();
        (self.node.take().unwrap(), output)
    }
}

/// A token with any claims, signed with any secret.
pub(crate) fn sign(claims: &Value, secret: &[u8]) -> String {
    // An issuer gives this process its cryptography, which a test that runs alone has not got yet.
    drop(TokenIssuer::new(&SigningKey::from_secret(&[0; SigningKey::MIN_BYTES]).unwrap()));
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// Reads to the end in a thread, so that the writer never waits.
fn keep(mut output: impl Read + Send + 'static, mut begun: String) -> JoinHandle<String> {
    std::thread::spawn(move || {
        output.read_to_string(&mut begun).unwrap();
        begun
    })
}
