//! Each promise of the agent, and each failure it must survive, against the real binary.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic: that is how it fails")]
#![expect(clippy::disallowed_methods, reason = "tests start the agent and its peers")]

mod acknowledged;
mod bounded;
mod clocks;
mod command_line;
mod concurrent;
mod configuration;
mod contract;
mod coverage;
mod damage;
mod deadlines;
mod disk_full;
mod every_call;
mod exact;
mod filters;
mod flood;
mod handlers;
mod injection;
mod intent;
mod kernel_kill;
mod kill;
mod kth_fault;
mod limits;
mod lost_file;
mod media;
mod misplaced_pages;
mod node_changes;
mod node_input;
mod openapi;
mod permission_matrix;
mod power_cut;
mod reload;
mod response_headers;
mod ring_property;
mod schema_versions;
mod secrets;
mod slow_clients;
mod spelling;
mod start_up;
mod store_blocked;
mod strict;
mod support;
mod tls;
mod token_catalogue;
mod token_keys;
