//! `/node/...`: the node's readings and settings, one file an endpoint family.

use super::endpoint::Endpoint;

/// Every endpoint of `/node`. A new family is one file and one line here.
pub fn endpoints() -> Vec<Endpoint> {
    Vec::new()
}
