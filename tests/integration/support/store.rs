//! A ring with its writer and its reader in this process, for what is put around them by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nodeaudit::audit::ring::{Ring, RingOptions};
use nodeaudit::audit::{Durabilities, Durability, Reader, Writer, WriterOptions, WriterThread};

/// A new one in this folder, strict for every class: nothing has to be flushed before it is read.
pub(crate) fn strict_store(folder: &Path) -> (Arc<Reader>, Writer, WriterThread) {
    let options = RingOptions {
        state_dir: folder.to_owned(),
        max_entries: 10_000,
        max_bytes: 8 << 20,
        guarantee_percent: [40, 30, 20],
        boot_id: uuid::Uuid::nil(),
        started_ms: 0,
    };
    let ring = Ring::open(&options).unwrap();
    let reader = Arc::new(Reader::new(folder, ring.gate()));
    let durabilities = Durabilities([(Durability::Strict, Duration::ZERO); 3]);
    let (writer, thread) =
        Writer::start(ring, WriterOptions { durabilities, max_pending: 64, denied_entries: 16 }).unwrap();
    (reader, writer, thread)
}
