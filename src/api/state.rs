//! What handlers share. Built once, in `server`.

use crate::host::Host;

/// Everything a handler can reach.
pub struct AppState {
    /// The node.
    pub host: Host,
}
