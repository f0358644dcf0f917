//! Who waits for entries is told here when they are on stable storage.

use tokio::sync::watch;

use crate::audit::entry::Seq;

/// The newest stored entries, for those who wait for one; none when nobody is to wait any more.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Of all.
    pub(super) any: watch::Sender<Option<Seq>>,
    /// Of those that are no reading of the log.
    pub(super) news: watch::Sender<Option<Seq>>,
}

impl Stored {
    pub(super) fn up_to(seq: Seq) -> Self {
        Self { any: watch::Sender::new(Some(seq)), news: watch::Sender::new(Some(seq)) }
    }

    /// Tells of records that are on stable storage now.
    pub(super) fn tell(&self, newest: Option<Seq>, newest_news: Option<Seq>) {
        for (told, seq) in [(&self.any, newest), (&self.news, newest_news)] {
            let Some(seq) = seq else { continue };
            // Once there is no waiting any more, there is none.
            told.send_if_modified(|seen| seen.as_mut().is_some_and(|seen| std::mem::replace(seen, seq) < seq));
        }
    }
}
