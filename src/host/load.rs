//! The load of the node, from `proc_loadavg(5)`.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use super::file::{malformed, read_text, read_word};
use super::{Host, HostError};

/// How busy the node is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Load {
    /// Tasks that run or wait for a processor or a disk, averaged over 1 minute (`proc_loadavg(5)`).
    pub load_1m: f64,
    /// The same over 5 minutes.
    pub load_5m: f64,
    /// The same over 15 minutes.
    pub load_15m: f64,
    /// Tasks that can run now.
    pub runnable_tasks: u64,
    /// Tasks in all: processes and threads.
    pub tasks: u64,
    /// Processors that are online; absent where `/sys` does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processors: Option<u64>,
}

impl Host {
    /// How busy the node is.
    pub fn load(&self) -> Result<Load, HostError> {
        let path = self.paths.proc("loadavg");
        let online = read_word(&self.paths.sys("devices/system/cpu/online"));
        let processors = online.ok().and_then(|list| count(&list));
        parse(&read_text(&path)?, processors)
            .ok_or_else(|| malformed(&path, "not of the form that proc_loadavg(5) gives"))
    }
}

/// `0.20 0.18 0.12 1/80 11206`
fn parse(text: &str, processors: Option<u64>) -> Option<Load> {
    fn next<'a, T: FromStr>(mut fields: impl Iterator<Item = &'a str>) -> Option<T> {
        fields.next()?.parse().ok()
    }
    let mut fields = text.split([' ', '/']);
    Some(Load {
        load_1m: next(&mut fields)?,
        load_5m: next(&mut fields)?,
        load_15m: next(&mut fields)?,
        runnable_tasks: next(&mut fields)?,
        tasks: next(&mut fields)?,
        processors,
    })
}

/// Members of a list of ranges such as `0-3,8`.
fn count(list: &str) -> Option<u64> {
    list.split(',')
        .map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
            to.checked_sub(from)?.checked_add(1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::Tree;

    #[test]
    fn the_three_averages_and_the_tasks_are_read() {
        let tree = Tree::new()
            .with("proc/loadavg", "0.20 0.18 0.12 1/80 11206\n")
            .with("sys/devices/system/cpu/online", "0-2,4\n");
        let expected =
            Load { load_1m: 0.20, load_5m: 0.18, load_15m: 0.12, runnable_tasks: 1, tasks: 80, processors: Some(4) };
        assert_eq!(tree.host().load().unwrap(), expected);
    }

    #[test]
    fn a_file_of_another_form_is_an_error_that_names_it() {
        let tree = Tree::new().with("proc/loadavg", "busy\n");
        let refused = tree.host().load().unwrap_err();
        assert!(refused.to_string().ends_with("proc/loadavg"), "{refused}");
    }

    #[test]
    fn a_list_of_ranges_counts_its_members() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,8,10-11"), Some(7));
        assert_eq!(count("3-0"), None);
        assert_eq!(count(""), None);
    }
}
