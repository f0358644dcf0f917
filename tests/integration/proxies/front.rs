//! The programs: Debian's nginx and HAProxy before an agent, told to let through as much as they can be told to.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::{Agent, Killed, eventually, skipped};

/// Where they call the agent from, so that they can be told from their clients.
pub(super) const PROXY: &str = "127.0.0.9";

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has all of a request before it passes any of it on.
    Nginx,
    /// It passes a body on as it comes.
    NginxUnbuffered,
    HaProxy,
}

/// A proxy that runs.
pub(super) struct Front {
    kind: Kind,
    address: SocketAddr,
    folder: TempDir,
    _process: Killed,
}

impl Front {
    /// One before this agent. None where the program is missing; it says so loudly.
    pub(super) fn before(agent: &Agent, kind: Kind) -> Option<Self> {
        let program = match kind {
            Kind::Nginx | Kind::NginxUnbuffered => "/usr/sbin/nginx",
            Kind::HaProxy => "/usr/sbin/haproxy",
        };
        if !Path::new(program).exists() {
            skipped(&format!("this test needs {program}"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // Neither of them tells which port it was given: this one was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        let at = folder.path().display();
        let configuration = match kind {
            Kind::Nginx => nginx(&at.to_string(), address, agent.address(), "on"),
            Kind::NginxUnbuffered => nginx(&at.to_string(), address, agent.address(), "off"),
            Kind::HaProxy => haproxy(address, agent.address()),
        };
        let file = folder.path().join("conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        match kind {
            Kind::Nginx | Kind::NginxUnbuffered => {
                command.args(["-p", &at.to_string(), "-e", &format!("{at}/errors"), "-c"]).arg(file);
            }
            Kind::HaProxy => {
                command.args(["-db", "-f"]).arg(file).stdout(File::create(folder.path().join("passed")).unwrap());
            }
        }
        command.stdin(Stdio::null()).stderr(File::create(folder.path().join("stderr")).unwrap());
        let process = Killed::new(command.spawn().unwrap());
        eventually(program, || TcpStream::connect(address).ok());
        Some(Self { kind, address, folder, _process: process })
    }

    /// Where its clients call.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Method and path of all that it has passed on up to now.
    pub(super) fn passed_on(&self) -> Vec<(String, String)> {
        let log = fs::read(self.folder.path().join("passed")).unwrap();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines = log.lines().filter_map(|line| {
            let [to, method, target] = line.splitn(3, '\t').collect::<Vec<_>>().try_into().ok()?;
            // What a tunnel would lead to is no path.
            let path = if method == "CONNECT" { String::new() } else { self.path(target) };
            (!["", "-", "<NOSRV>"].contains(&to)).then(|| (method.to_owned(), path))
        });
        lines.collect()
    }

    /// The path of a target as the agent gets it.
    fn path(&self, target: &str) -> String {
        let target = target.split('?').next().unwrap_or_default();
        let absolute = target.strip_prefix("http://").filter(|_| self.kind == Kind::HaProxy);
        absolute.map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..])).to_owned()
    }
}

fn nginx(folder: &str, address: SocketAddr, agent: SocketAddr, buffering: &str) -> String {
    format!(
        "daemon off; master_process off; pid {folder}/pid;
        events {{ worker_connections 512; }}
        http {{
            log_format passed escape=none \"$upstream_addr\t$request_method\t$request_uri\";
            access_log {folder}/passed passed;
            client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
            uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
            client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s; lingering_timeout 1s;
            underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
            upstream agent {{ server {agent}; keepalive 8; }}
            server {{
                listen {address};
                location / {{
                    proxy_pass http://agent;
                    proxy_bind {PROXY};
                    proxy_http_version 1.1;
                    proxy_set_header Connection \"\";
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_next_upstream off;
                    proxy_request_buffering {buffering};
                }}
            }}
        }}"
    )
}

fn haproxy(address: SocketAddr, agent: SocketAddr) -> String {
    format!(
        "global
  log stdout format raw local0
  nbthread 1
defaults
  mode http
  log global
  log-format \"%s\t%HM\t%HU\"
  timeout connect 5s
  timeout server 30s
  timeout client 1s
  timeout http-request 1s
  timeout http-keep-alive 1s
  retries 0
frontend clients
  bind {address}
  option forwardfor
  option accept-invalid-http-request
  default_backend agent
backend agent
  http-reuse always
  source {PROXY}
  server agent {agent}
"
    )
}
