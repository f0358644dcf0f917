//! Each promise of the agent, and each failure it must survive, against the real binary.

mod concurrent;
mod contract;
mod coverage;
mod every_call;
mod intent;
mod openapi;
mod permission_matrix;
mod support;
