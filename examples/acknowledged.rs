//! Whether a board's storage keeps what it says to have kept: run on another machine against a node whose power is cut.
//!
//! ```text
//! acknowledged record ADDR:PORT FILE [CONNECTIONS]     call until the node is gone, and keep the ID of each answer in FILE
//! acknowledged verify ADDR:PORT FILE                   after the node is up again: which of these entries are missing?
//! ```
//! The token is read from the variable TOKEN; it needs `node:write` to record and `audit:read` to verify. What it calls is a change
//! that is refused for what it asks (a time zone that nobody has), so nothing on the node changes, and a change is strict.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A node that is silent for so long is gone: its own deadline for an answer is two seconds.
const SILENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 16;

/// So many of the last answers are verified. A ring of the default size holds more changes than that, and what was answered
/// earlier is long past any cache.
const VERIFIED: usize = 10_000;

const CHANGE: &str = r#"{"timezone": "No/Where"}"#;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let token = std::env::var("TOKEN").map_err(|_| "the variable TOKEN is not set")?;
    match arguments[..] {
        ["record", address, file] => record(address, &token, file, CONNECTIONS),
        ["record", address, file, connections] => record(address, &token, file, connections.parse()?),
        ["verify", address, file] => verify(address, &token, file),
        _ => Err("usage: acknowledged record ADDR:PORT FILE [CONNECTIONS] | acknowledged verify ADDR:PORT FILE".into()),
    }
}

/// Calls over many connections until none is answered any more.
fn record(address: &str, token: &str, file: &str, connections: usize) -> Result<ExitCode, Box<dyn Error>> {
    let mut file = File::options().write(true).create_new(true).open(file)?;
    let (answers, answered) = channel();
    let started = Instant::now();
    for _ in 0..connections {
        let (node, answers) = (Node::connect(address, token)?, answers.clone());
        thread::spawn(move || call_until_gone(node, started, &answers));
    }
    drop(answers);
    println!("calling {address} over {connections} connections; cut its power when you like");
    let mut count = 0_u64;
    for (answered_us, id) in answered {
        // Microseconds since the start, then the entry's ID.
        writeln!(file, "{answered_us} {id}")?;
        count += 1;
    }
    file.sync_all()?;
    println!("the node is gone; it had answered {count} calls");
    Ok(ExitCode::SUCCESS)
}

fn call_until_gone(mut node: Node, started: Instant, answers: &Sender<(u128, String)>) {
    while let Ok(answer) = node.call("PUT", "/node/timezone", CHANGE) {
        // Any other code says that the call was not recorded, or not made.
        if answer.status == 404
            && let Some(id) = answer.audit_id
            && answers.send((started.elapsed().as_micros(), id)).is_err()
        {
            return;
        }
        if answer.closes && node.reconnect().is_err() {
            return;
        }
    }
}

/// Asks for each entry.
fn verify(address: &str, token: &str, file: &str) -> Result<ExitCode, Box<dyn Error>> {
    let mut node = Node::connect(address, token)?;
    let recorded = fs::read_to_string(file)?;
    let mut calls = Vec::new();
    for line in recorded.lines() {
        let (answered_us, id) = line.split_once(' ').ok_or("the file is not one of `record`")?;
        calls.push((answered_us.parse::<u64>()?, id));
    }
    let calls = &calls[calls.len().saturating_sub(VERIFIED)..];
    let last_us = calls.iter().map(|(answered_us, _)| *answered_us).max().unwrap_or_default();
    let mut missing = 0;
    for (answered_us, id) in calls {
        match node.call("GET", &format!("/audit/{id}"), "")?.status {
            200 => {}
            404 => {
                missing += 1;
                println!("missing: {id}, answered {} ms before the last answer", (last_us - answered_us) / 1_000);
            }
            status => return Err(format!("{id}: the node answers with {status}").into()),
        }
    }
    println!("of the last {} answered calls {missing} have no entry", calls.len());
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A connection to a node.
struct Node {
    address: String,
    token: String,
    stream: BufReader<TcpStream>,
}

/// What matters of a response.
struct Answer {
    status: u16,
    audit_id: Option<String>,
    closes: bool,
}

impl Node {
    fn connect(address: &str, token: &str) -> io::Result<Self> {
        Ok(Self { address: address.to_owned(), token: token.to_owned(), stream: open(address)? })
    }

    fn reconnect(&mut self) -> io::Result<()> {
        self.stream = open(&self.address)?;
        Ok(())
    }

    /// Makes a call and reads its response to the end.
    fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let Self { address, token, stream } = self;
        write!(
            stream.get_mut(),
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let malformed = || io::Error::other("this is not an answer of a node");
        let status = line(stream)?.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
        let (mut answer, mut length) = (Answer { status, audit_id: None, closes: false }, 0);
        loop {
            let header = line(stream)?;
            let Some((name, value)) = header.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "audit-id" => answer.audit_id = Some(value.trim().to_owned()),
                "connection" => answer.closes = value.trim() == "close",
                "content-length" => length = value.trim().parse().map_err(|_| malformed())?,
                _ => {}
            }
        }
        stream.read_exact(&mut vec![0; length])?;
        Ok(answer)
    }
}

fn open(address: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    Ok(BufReader::new(stream))
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
