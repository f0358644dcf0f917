//! What an agent asks of the kernel, in the order in which it does, as strace(1) sees it.
//!
//! A call counts as entered when strace has stopped the thread before it, and as left when it has stopped it after it: no other thread
//! can know of its result before. So if one call is left before another one is entered here, it was so.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

pub(crate) const STRACE: &str = "/usr/bin/strace";

/// What starts an agent so that these of its calls are written to `file`, with all that they read and write.
pub(crate) fn traced(file: &Path, calls: &str) -> Vec<String> {
    let trace = format!("--trace={calls}");
    let fixed = [STRACE, "-f", "-qq", "-ttt", "-yy", "-s", "5000", "--seccomp-bpf", &trace, "-o"];
    fixed.into_iter().map(str::to_owned).chain([file.display().to_string()]).collect()
}

/// One call of the agent to the kernel.
#[derive(Debug)]
pub(crate) struct SystemCall {
    pub(crate) name: String,
    /// What the first argument stands for: the path of a file, or both ends of a connection.
    pub(crate) target: String,
    /// The arguments as strace writes them.
    pub(crate) arguments: String,
    /// What the kernel gave; negative where it failed.
    pub(crate) result: i64,
    /// The lines of the trace where it was entered and left.
    pub(crate) entered: usize,
    pub(crate) left: usize,
    pub(crate) entered_us: u64,
    pub(crate) left_us: u64,
}

impl SystemCall {
    /// Whether it did what it was asked.
    pub(crate) fn is(&self, name: &str, target_end: &str) -> bool {
        self.result >= 0 && self.name == name && self.target.ends_with(target_end)
    }
}

/// The calls of an agent so far, in the order in which they were entered.
pub(crate) struct Trace(pub(crate) Vec<SystemCall>);

impl Trace {
    pub(crate) fn read(file: &Path) -> Self {
        let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        let mut calls = Vec::new();
        let mut unfinished: HashMap<&str, (usize, u64, &str)> = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let Some((thread, line)) = line.split_once(' ') else { continue };
            let Some((time, line)) = line.trim_start().split_once(' ') else { continue };
            // The last line of a trace that still grows may be half of one.
            let Ok(time_us) = time.replace('.', "").parse() else { continue };
            if let Some(begun) = line.strip_suffix(" <unfinished ...>") {
                unfinished.insert(thread, (number, time_us, begun));
            } else if let Some(resumed) = line.strip_prefix("<... ") {
                let Some((entered, entered_us, begun)) = unfinished.remove(thread) else { continue };
                let Some((_, rest)) = resumed.split_once(" resumed>") else { continue };
                calls.extend(call(&format!("{begun}{rest}"), (entered, entered_us), (number, time_us)));
            } else {
                calls.extend(call(line, (number, time_us), (number, time_us)));
            }
        }
        calls.sort_by_key(|call| call.entered);
        Self(calls)
    }
}

/// A line such as `pwrite64(7</path>, "...", 24, 32) = 24`. None where the thread ended within.
fn call(line: &str, (entered, entered_us): (usize, u64), (left, left_us): (usize, u64)) -> Option<SystemCall> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split([' ', '<']).next()?.parse().ok()?;
    let target = arguments.split_once('<').map_or("", |(_, target)| {
        let end = if target.starts_with("TCP") { "]>" } else { ">" };
        target.split_once(end).map_or("", |(target, _)| target)
    });
    Some(SystemCall {
        name: name.to_owned(),
        target: target.to_owned(),
        arguments: arguments.to_owned(),
        result,
        entered,
        left,
        entered_us,
        left_us,
    })
}
