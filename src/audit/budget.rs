//! How the bytes that the ring may use are divided among its files.

/// The page size of the ring file. Smaller pages cost more when batched, larger ones far more when not.
pub(super) const PAGE_BYTES: u64 = 4096;

/// The least that `audit.max_bytes` may be: below it the fixed parts would leave no room for entries.
pub(super) const RING_MIN_BYTES: u64 = 1024 * 1024;

/// What a frame of the WAL takes: a page and its header.
pub(super) const FRAME_BYTES: u64 = PAGE_BYTES + 24;
/// One region of the WAL's index serves 4,062 frames, more than any WAL here has.
const SHM_BYTES: u64 = 32 * 1024;
/// The least and the most that a WAL may take, however small or large the ring.
const WAL_MIN_BYTES: u64 = 256 * 1024;
pub(super) const WAL_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Pages that hold neither entries nor intents: the small tables, inner pages of all, the free list's trunks.
const FIXED_PAGES: u64 = 32;
/// The most intents that may be open, however large the ring: changes that go on at the same time.
const OPEN_INTENTS_MAX: u64 = 512;
/// Pages beside those of the entries that a transaction may need: inner pages, small tables, the last pages of six others. What it needs
/// beyond that is in the pages that are reserved twice for rows.
pub(super) const SPARE_PAGES: u64 = 12;
/// SQLite takes the size in which a file grows as a C int.
const CHUNK_MAX_BYTES: u64 = 1 << 30;

/// The division of `audit.max_bytes`: database, WAL and shared-memory file together stay below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    max_bytes: u64,
}

impl Budget {
    /// The division of that many bytes.
    pub(super) const fn new(max_bytes: u64) -> Self {
        Self { max_bytes: if max_bytes < RING_MIN_BYTES { RING_MIN_BYTES } else { max_bytes } }
    }

    /// The most that the WAL may take.
    pub(super) fn wal_bytes(self) -> u64 {
        (self.max_bytes / 8).clamp(WAL_MIN_BYTES, WAL_MAX_BYTES)
    }

    /// The most frames that the WAL may hold.
    pub(super) fn wal_frames(self) -> u64 {
        self.wal_bytes() / FRAME_BYTES
    }

    /// The most pages that the database may have: a whole number of chunks.
    pub(super) fn pages(self) -> u64 {
        let pages = (self.max_bytes - self.wal_bytes() - SHM_BYTES) / PAGE_BYTES;
        pages / self.chunks() * self.chunks()
    }

    /// The size in which the database grows: at once, or in as few steps as SQLite can.
    pub(super) fn chunk_bytes(self) -> u64 {
        self.pages() / self.chunks() * PAGE_BYTES
    }

    fn chunks(self) -> u64 {
        self.max_bytes.div_ceil(CHUNK_MAX_BYTES)
    }

    /// How many intents may be open. Each may need a page of its own, and one more while it becomes an entry.
    pub(super) fn open_intents(self) -> usize {
        let intents = (self.pages() / 16).min(OPEN_INTENTS_MAX);
        usize::try_from(intents).unwrap_or(usize::MAX)
    }

    /// The most that the charges of all entries may add up to. Inner pages of the tables take 1 in 100 at most.
    pub(super) fn charge_bytes(self) -> u64 {
        (self.pages() - FIXED_PAGES - 2 * self.open_intents() as u64) * PAGE_BYTES / 100 * 98
    }

    /// How much one transaction may store, so that it fits what is left of the WAL when a checkpoint has been put off.
    pub(super) fn batch_bytes(self) -> usize {
        usize::try_from(self.wal_bytes() / 20).unwrap_or(usize::MAX)
    }

    /// The most that the charges of entries may add up to that are evicted together: SQLite writes each page that becomes free, and those
    /// have to fit the WAL beside what takes their place.
    pub(super) fn extent_bytes(self) -> u64 {
        self.wal_bytes() / 32
    }

    /// The most frames that a transaction which stores a batch adds to the WAL. Rows that pack badly fill half of their pages, and as much
    /// goes for them; each class may give an extent more than that.
    pub(super) fn batch_frames(self) -> u64 {
        (4 * self.batch_bytes() as u64 + 3 * self.extent_bytes()) / PAGE_BYTES + SPARE_PAGES
    }
}

/// What an entry of `row_bytes` takes in the ring file, its part of a page's unused end included.
pub(super) const fn charge_bytes(row_bytes: u64) -> u64 {
    let rows_a_page = PAGE_USABLE_BYTES / row_bytes;
    PAGE_BYTES / if rows_a_page == 0 { 1 } else { rows_a_page }
}

/// The same in SQL, of a row of so many bytes.
pub(super) fn charge_sql(row_bytes: &str) -> String {
    format!("({PAGE_BYTES} / ({PAGE_USABLE_BYTES} / ({row_bytes})))")
}

/// The most that an entry is charged: for what it has in common with others a page, and for its own row as much as two addresses and a
/// trace ID make of it.
pub(super) const ENTRY_CHARGE_MAX: u64 = PAGE_BYTES + charge_bytes(128);

/// What a leaf page offers to rows. A row is never larger: `redact` caps every text.
pub(super) const PAGE_USABLE_BYTES: u64 = PAGE_BYTES - 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_stay_within_the_bytes_that_the_ring_may_use() {
        for max_bytes in [RING_MIN_BYTES, 3_000_000, 64 << 20, 3_000_000_000, 1 << 40] {
            let budget = Budget::new(max_bytes);
            assert!(budget.wal_bytes() + SHM_BYTES + budget.pages() * PAGE_BYTES <= max_bytes);
            assert!(
                budget.chunk_bytes() <= CHUNK_MAX_BYTES
                    && (budget.pages() * PAGE_BYTES).is_multiple_of(budget.chunk_bytes())
            );
            assert!(budget.charge_bytes() < budget.pages() * PAGE_BYTES);
            assert!(
                budget.wal_frames() / 2 + budget.batch_frames() <= budget.wal_frames(),
                "it starts again in good time"
            );
            assert!(budget.charge_bytes() > max_bytes / 3, "the most of it is for entries");
        }
    }
}
