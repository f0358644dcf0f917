//! What readers and the writer share: who may pass now, which file the ring is, and what a reader found wrong with it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::identity::{FileId, Identity};
use super::newest::Newest;

/// Held open during each step of a reader, and closed when the WAL has to start again or the file is replaced: no reader can pin
/// the one, nor read the other. Clones are one gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The ring file as the writer opened it; none where there is no ring now.
    ring: RwLock<Option<FileId>>,
    damage: Mutex<Option<String>>,
    /// How often the file was replaced.
    generation: AtomicU64,
    forget: Mutex<Vec<Box<dyn Fn() + Send>>>,
    newest: Newest,
}

impl Gate {
    /// A gate of one who looks at the ring of another process, or at one that nobody writes: to the file that is there now.
    pub fn to_file_in(state_dir: &Path) -> Self {
        let gate = Self::default();
        *gate.close() = Identity::of(state_dir).database;
        gate
    }

    /// Lets a reader pass for one step, and says which file it may read.
    pub(in crate::audit) fn pass(&self) -> RwLockReadGuard<'_, Option<FileId>> {
        self.0.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the file is damaged: the writer sets it aside. To be called by who has passed, so that it is of the present file.
    pub(in crate::audit) fn report_damage(&self, damage: String) {
        lock(&self.0.damage).get_or_insert(damage);
        self.0.newest.forget();
    }

    /// What has to be done before the file is replaced: to close the connections of readers that do nothing now.
    pub(in crate::audit) fn before_replacement(&self, forget: impl Fn() + Send + 'static) {
        lock(&self.0.forget).push(Box::new(forget));
    }

    /// How often the file was replaced since the start.
    pub(in crate::audit) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    /// The newest entries, as far as they are in memory.
    pub(in crate::audit) fn newest(&self) -> &Newest {
        &self.0.newest
    }

    /// Waits until no reader is within, and lets none in.
    pub(super) fn close(&self) -> RwLockWriteGuard<'_, Option<FileId>> {
        self.0.ring.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader found wrong with the present file.
    pub(super) fn damage(&self) -> Option<String> {
        lock(&self.0.damage).clone()
    }

    /// Has readers close what they have open, and forgets what they found wrong. To be called while the gate is closed.
    pub(super) fn forget_file(&self) {
        lock(&self.0.forget).iter().for_each(|forget| forget());
        lock(&self.0.damage).take();
        self.0.newest.forget();
        self.0.generation.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("ring", &self.ring).field("damage", &self.damage).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
