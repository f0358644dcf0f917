//! The writer's queue in every order in which threads can meet in it.
//!
//! `src/audit/writer/queue.rs` is compiled here once more, as it stands, between modules of the names that it uses: the agent's own
//! ones, and in the place of `sync` one whose locks are loom's and whose time passes when a model says so. Loom then runs each
//! model again and again, another order each time, until there is none left with so many preemptions: 3, or what the variable
//! `LOOM_MAX_PREEMPTIONS` says.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic: that is how it fails")]

mod audit;

mod auth {
    pub(crate) use nodeaudit::auth::{Actor, AuthMethod, network_of};
}
