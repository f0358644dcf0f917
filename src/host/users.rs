//! The node's users and groups by name: `passwd(5)` and `group(5)`.
//!
//! Read as the files are: those of a directory service have no names here. The C library would ask more, and load programs of the
//! node into the agent for it.

use std::path::Path;

use super::file::read_text_if_any;
use super::{HostError, Paths};
use crate::decimal;

/// The users and groups of a node.
#[derive(Clone, Debug)]
pub struct Users(Paths);

impl Users {
    /// Those of the node with these files.
    pub const fn new(paths: Paths) -> Self {
        Self(paths)
    }

    /// The name of a user. Blocks.
    pub fn name_of(&self, uid: u32) -> Result<Option<String>, HostError> {
        let has_it = |fields: &[&str]| number(fields) == Some(uid);
        Ok(find(&self.0.etc("passwd"), has_it)?.map(|line| line.split(':').next().unwrap_or_default().to_owned()))
    }

    /// Whether this process can tell users apart: in a user namespace, all that it does not map are one (`user_namespaces(7)`). Blocks.
    pub fn are_told_apart(&self) -> Result<bool, HostError> {
        let map = read_text_if_any(&self.0.proc("self/uid_map"))?;
        // Without such namespaces in the kernel there is no file.
        Ok(map.is_none_or(|map| map.split_whitespace().eq(["0", "0", "4294967295"])))
    }

    /// The number of a group. Blocks.
    pub fn gid_of(&self, group: &str) -> Result<Option<u32>, HostError> {
        let has_it = |fields: &[&str]| fields.first() == Some(&group);
        let line = find(&self.0.etc("group"), has_it)?;
        Ok(line.and_then(|line| number(&line.split(':').collect::<Vec<_>>())))
    }
}

/// The third field of either file: the number.
fn number(fields: &[&str]) -> Option<u32> {
    fields.get(2).and_then(|number| decimal::parse(number))
}

/// The first line whose fields fit.
fn find(path: &Path, fits: impl Fn(&[&str]) -> bool) -> Result<Option<String>, HostError> {
    let text = read_text_if_any(path)?.unwrap_or_default();
    Ok(text.lines().find(|line| fits(&line.split(':').collect::<Vec<_>>())).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn users_and_groups_are_found_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let users = Users::new(Paths::new(root.path()));
        assert_eq!((users.name_of(0).unwrap(), users.gid_of("adm").unwrap()), (None, None), "there are no files");
        fs::create_dir(root.path().join("etc")).unwrap();
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n+::::::\nops:x:1000:1000::/home/ops:/bin/sh\ntoor:x:0:0::/:/bin/sh\n";
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), "root:x:0:\nadm:x:4:ops\nbad:x:-1:\n").unwrap();
        let name = |uid| users.name_of(uid).unwrap();
        assert_eq!((name(0).as_deref(), name(1_000).as_deref(), name(1)), (Some("root"), Some("ops"), None));
        assert!(users.are_told_apart().unwrap(), "there is no map");
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        for (map, all) in [("         0          0 4294967295\n", true), ("0 0 1\n997 997 1\n", false)] {
            fs::write(root.path().join("proc/self/uid_map"), map).unwrap();
            assert_eq!(users.are_told_apart().unwrap(), all, "{map}");
        }
        let gid = |group| users.gid_of(group).unwrap();
        assert_eq!((gid("adm"), gid("bad"), gid("ad")), (Some(4), None, None));
    }
}
