//! The ring file, read without the agent.

use std::fs;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::Node;

/// The ring file of a node.
pub(crate) struct RingFile {
    connection: Connection,
    /// The folder of a copy.
    _copy: Option<TempDir>,
}

impl RingFile {
    /// The file that an agent may be writing.
    pub(crate) fn of(node: &Node) -> Self {
        let path = node.state_dir().join(nodeaudit::audit::ring::FILE_NAME);
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        Self { connection, _copy: None }
    }

    /// A copy of what no agent writes now. Looking at it leaves what the next start will find untouched.
    pub(crate) fn copy_of(node: &Node) -> Self {
        let copy = tempfile::tempdir().unwrap();
        let name = nodeaudit::audit::ring::FILE_NAME;
        for file in [name.to_owned(), format!("{name}-wal")] {
            let original = node.state_dir().join(&file);
            if original.exists() {
                fs::copy(original, copy.path().join(file)).unwrap();
            }
        }
        let connection = Connection::open(copy.path().join(name)).unwrap();
        Self { connection, _copy: Some(copy) }
    }

    /// Checks that SQLite finds the file sound, and that the entries are as they must be: seq rises with the ordinal in each
    /// class, ordinals have no gap, no seq is given twice, no call has two entries, and what entries have in common is there as long
    /// as they are.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        let verdict: String = self.connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        for class in ["change", "read", "denied"] {
            let falling = format!(
                "SELECT count(*) FROM (SELECT ordinal, seq, lag(ordinal) OVER w AS before, lag(seq) OVER w AS lower \
                 FROM {class} WINDOW w AS (ORDER BY ordinal)) WHERE seq <= lower OR ordinal <> before + 1"
            );
            assert_eq!(self.count(&falling), 0, "seqs or ordinals of class {class}");
            let named = format!("SELECT count(*) FROM {class} WHERE common NOT IN (SELECT number FROM {class}_common)");
            assert_eq!(self.count(&named), 0, "entries of class {class} that name nothing");
            let unnamed =
                format!("SELECT count(*) FROM {class}_common WHERE number < (SELECT min(common) FROM {class})");
            assert_eq!(self.count(&unnamed), 0, "what no entry of class {class} names any more");
        }
        assert_eq!(self.count("SELECT count(*) - count(DISTINCT seq) FROM entry"), 0, "a seq twice");
        // The looks of a test at the ring have no user agent.
        let twice = "SELECT count(*) - count(DISTINCT user_agent) FROM entry WHERE user_agent IS NOT NULL";
        assert_eq!(self.count(twice), 0, "two entries of one call");
    }

    /// The user agents of the changes that have begun and not ended.
    pub(crate) fn open_intents(&self) -> Vec<String> {
        self.user_agents("SELECT user_agent FROM intent WHERE user_agent IS NOT NULL")
    }

    /// The user agents of the changes that were interrupted.
    pub(crate) fn interrupted(&self) -> Vec<String> {
        self.user_agents("SELECT user_agent FROM entry WHERE class = 'change' AND outcome = 3 AND response_code = 0")
    }

    fn user_agents(&self, sql: &str) -> Vec<String> {
        let mut statement = self.connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn count(&self, sql: &str) -> u64 {
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}
