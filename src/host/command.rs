//! Child processes: the only place in the crate that starts one.
//!
//! A program is named, looked up in a fixed list of folders, and given an argument vector: never a shell, never the
//! agent's environment. Every child has a deadline, a cap on its output, and a place among a few at a time.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::HostError;

/// Where programs are looked for, and the `PATH` that children see.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// The one variable that a child inherits: where the system bus is, if not at its usual place.
const INHERITED: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// Children at a time. More callers wait, within their deadline.
const SLOTS: usize = 4;

/// Bytes of a child's diagnostics that are kept; the rest is read and dropped.
const STDERR_BYTES: u64 = 4096;

/// How long a killed child may take to go before it is left to the runtime to reap.
const KILL_GRACE: Duration = Duration::from_millis(500);

/// The way to child processes.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    slots: Arc<Semaphore>,
}

/// What a child may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From the call to the end of the child, waiting for a slot included.
    pub(super) deadline: Duration,
    /// Bytes of its output.
    pub(super) output_bytes: usize,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// Its output reached the cap.
    OutputFull,
    /// It was killed at its deadline.
    DeadlinePassed,
}

/// What a child left.
#[derive(Debug)]
pub(super) struct Output {
    /// Its output, at most the cap.
    pub(super) stdout: Vec<u8>,
    /// The beginning of its diagnostics.
    pub(super) stderr: String,
    /// How it ended.
    pub(super) ended: Ended,
}

impl Commands {
    /// With all slots free.
    pub(super) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(SLOTS)) }
    }

    /// Whether this image has the program.
    pub(super) fn has(program: &str) -> bool {
        find(program).is_some()
    }

    /// Runs a program to its end, or to its limits. It is killed when the caller goes away.
    pub(super) async fn run(
        &self,
        program: &'static str,
        arguments: &[&str],
        limits: Limits,
    ) -> Result<Output, HostError> {
        let path = find(program).ok_or_else(|| HostError::unavailable(program, "this image does not have it"))?;
        let deadline = Instant::now() + limits.deadline;
        let slot = timeout_at(deadline, self.slots.acquire()).await;
        let _slot = slot
            .map_err(|_| HostError::unavailable(program, "too many calls are waiting for it"))?
            .expect("the semaphore is never closed");
        let child = command(&path, arguments)
            .spawn()
            .map_err(|error| HostError::unavailable(program, format!("it can't be started: {error}")))?;
        Ok(collect(child, deadline, limits.output_bytes).await)
    }
}

fn find(program: &str) -> Option<PathBuf> {
    FOLDERS.into_iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

fn command(path: &Path, arguments: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", FOLDERS.join(":"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(value) = env::var_os(INHERITED) {
        command.env(INHERITED, value);
    }
    command
}

async fn collect(mut child: Child, deadline: Instant, output_bytes: usize) -> Output {
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let (mut output, mut diagnostics) = (Vec::new(), Vec::new());
    let reading =
        join(read_head(stdout, output_bytes as u64 + 1, &mut output), read_and_drain(stderr, &mut diagnostics));
    let exited = timeout_at(deadline, async {
        reading.await;
        child.wait().await
    })
    .await;
    let ended = match exited {
        _ if output.len() > output_bytes => Ended::OutputFull,
        Ok(Ok(status)) => Ended::Exited(status),
        Ok(Err(_)) | Err(_) => Ended::DeadlinePassed,
    };
    if !matches!(ended, Ended::Exited(_)) {
        // A child that even a kill does not end at once hangs in the kernel: the runtime reaps it when it goes.
        let _ = timeout(KILL_GRACE, child.kill()).await;
    }
    output.truncate(output_bytes);
    Output { stdout: output, stderr: String::from_utf8_lossy(&diagnostics).into_owned(), ended }
}

/// Reads up to `limit` bytes and closes the pipe, which ends a child that writes on.
async fn read_head(pipe: impl AsyncRead + Unpin, limit: u64, into: &mut Vec<u8>) {
    // A pipe that breaks ends like one that is closed: the exit status tells the rest.
    let _ = pipe.take(limit).read_to_end(into).await;
}

/// Keeps the beginning and reads on, so that a talkative child never waits for its reader.
async fn read_and_drain(mut pipe: impl AsyncRead + Unpin, into: &mut Vec<u8>) {
    let _ = (&mut pipe).take(STDERR_BYTES).read_to_end(into).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::block_on;

    const LIMITS: Limits = Limits { deadline: Duration::from_mins(1), output_bytes: 64 };

    fn run(program: &'static str, arguments: &[&str], limits: Limits) -> Result<Output, HostError> {
        block_on(async { Commands::new().run(program, arguments, limits).await })
    }

    #[test]
    fn a_child_sees_an_environment_of_its_own() {
        let output = run("env", &[], LIMITS).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let inherited = text.lines().filter(|line| !line.starts_with(INHERITED));
        let seen: Vec<_> = inherited.collect();
        assert_eq!(seen, ["LC_ALL=C", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"]);
    }

    #[test]
    fn an_argument_is_never_read_by_a_shell() {
        let output = run("echo", &["$(id)", ";", "`id`"], LIMITS).unwrap();
        assert_eq!(output.stdout, b"$(id) ; `id`\n");
    }

    #[test]
    fn a_child_that_writes_without_end_is_stopped_at_the_cap() {
        let output = run("yes", &[], LIMITS).unwrap();
        assert_eq!((output.stdout.len(), output.ended), (64, Ended::OutputFull));
    }

    #[test]
    fn a_child_that_does_not_end_is_killed_at_its_deadline() {
        let limits = Limits { deadline: Duration::from_millis(20), output_bytes: 64 };
        let output = run("sleep", &["600"], limits).unwrap();
        assert_eq!(output.ended, Ended::DeadlinePassed);
    }

    #[test]
    fn a_failing_child_leaves_its_diagnostics() {
        let output = run("ls", &["/no/such/file"], LIMITS).unwrap();
        assert!(matches!(output.ended, Ended::Exited(status) if !status.success()));
        assert!(output.stderr.contains("/no/such/file"), "{}", output.stderr);
    }

    #[test]
    fn a_program_that_the_image_lacks_is_unavailable() {
        let refused = run("no-such-program", &[], LIMITS).unwrap_err();
        assert!(matches!(refused, HostError::Unavailable { .. }));
    }

    #[test]
    fn with_every_slot_taken_a_call_is_refused_at_its_deadline() {
        block_on(async {
            let commands = Commands::new();
            let _taken = commands.slots.acquire_many(4).await.unwrap();
            let limits = Limits { deadline: Duration::ZERO, output_bytes: 64 };
            let refused = commands.run("true", &[], limits).await.unwrap_err();
            assert!(refused.to_string().contains("too many calls"), "{refused}");
        });
    }
}
