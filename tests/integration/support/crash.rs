//! What has to be true of a node whose agent died without a farewell.

use std::collections::HashMap;

use super::load::missing;
use super::{Agent, Answered, Node, RingFile};

/// What was known of a node's calls when its agent died.
pub(crate) struct Crash {
    answered: Vec<Answered>,
    /// The changes that had begun and not ended, by their user agents.
    open: Vec<String>,
}

/// A node whose agent runs again.
pub(crate) struct Recovery {
    pub(crate) agent: Agent,
    /// The calls that were answered and have no entry.
    pub(crate) missing: Vec<Answered>,
    /// How many changes were interrupted.
    pub(crate) interrupted: usize,
}

impl Crash {
    /// Looks at the ring file before the next agent does. The file is sound.
    pub(crate) fn at(node: &Node, answered: Vec<Answered>) -> Self {
        let file = RingFile::copy_of(node);
        file.assert_sound();
        Self { answered, open: file.open_intents() }
    }

    /// The same after one more crash, when an agent may or may not have told of the changes that were open at the first one.
    pub(crate) fn and(mut self, mut second: Self) -> Self {
        self.answered.append(&mut second.answered);
        self.open.append(&mut second.open);
        self.open.sort();
        self.open.dedup();
        self
    }

    /// Starts an agent and checks what it makes of the crash.
    pub(crate) fn recover(self, node: Node) -> Recovery {
        self.check(node.start())
    }

    /// Looks for the entries of all calls that were answered. The file is sound, and each change that had begun and not ended has
    /// one entry that says so.
    pub(crate) fn check(self, agent: Agent) -> Recovery {
        let missing = missing(&agent, &self.answered);
        let file = RingFile::of(agent.node());
        file.assert_sound();
        assert_eq!(file.open_intents(), [""; 0], "no change is open when the agent serves");
        let mut interrupted: HashMap<String, u32> = HashMap::new();
        for change in file.interrupted() {
            *interrupted.entry(change).or_default() += 1;
        }
        for change in &self.open {
            assert_eq!(interrupted.get(change), Some(&1), "interrupted entries of the change {change}");
        }
        Recovery { agent, missing, interrupted: self.open.len() }
    }
}
