//! When what is queued has to be on its way, whoever waits for it.

use std::time::Duration;

use super::sync::Instant;

/// The end of the window that ends first; none where nothing has to be on its way.
#[derive(Debug, Default)]
pub(super) struct Due {
    end: Option<Instant>,
    /// The window that this is the end of.
    window: Duration,
}

impl Due {
    /// Takes in what has to be on its way before this window has passed, and tells whether that is earlier than it was.
    pub(super) fn becomes_earlier(&mut self, window: Duration) -> bool {
        // What comes later with a window that is no shorter is not due earlier, whatever time it is.
        if self.end.is_some() && window >= self.window {
            return false;
        }
        let end = Instant::now() + window;
        let is_earlier = self.end.is_none_or(|earliest| end < earliest);
        if is_earlier {
            *self = Self { end: Some(end), window };
        }
        is_earlier
    }

    /// When that is.
    pub(super) const fn end(&self) -> Option<Instant> {
        self.end
    }
}
