//! Processes beside the agent.

use std::process::Child;

/// A process that does not outlive its test, however that ends.
pub(crate) struct Killed(pub(super) Child);

impl Killed {
    pub(crate) const fn new(process: Child) -> Self {
        Self(process)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended already feels neither of these.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
