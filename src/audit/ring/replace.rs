//! A ring whose file is damaged or gone while the agent runs: another file takes its place, without a restart.
//!
//! t0: before each batch the names of the open files are compared with the files, and readers may have reported damage. t1: the gate
//! is closed, so no reader is within; the old file is closed without a write. t2: it is set aside, or it is gone. t3: a new ring
//! begins with all that memory knows: the seq, the losses, the changes that have begun. t4: the gate opens, the batch is stored.

use std::time::{Duration, Instant};

use super::accounts::begin_run;
use super::error::During as _;
use super::identity::{FileId, Identity, Names};
use super::make::Beginning;
use super::{Known, OpenFile, Origin, Ring, RingError, damage, file};
use crate::audit::class::Class;
use crate::host::clock;
use crate::report;

/// How long a new ring has to be sound before it is replaced too: else what damages every file would fill the disk with them, and
/// the first of them would be among those that are removed.
const REPLACE_PAUSE: Duration = Duration::from_secs(10);

impl Ring {
    /// Sees to it that there is a ring file, and that it is the one that is open.
    pub(super) fn mend(&mut self) -> Result<(), RingError> {
        let Some(file) = &self.file else {
            return self.reopen();
        };
        match file.identity.compare(&self.options.state_dir) {
            Names::DatabaseGone => {
                log::error!("the ring file was removed or replaced while it was written");
                return self.replace(Origin::Missing);
            }
            Names::WalGone => {
                log::error!("the WAL was removed or replaced while it was written; all of it goes into the database");
                self.rescue_wal()?;
            }
            Names::Same => {}
        }
        self.gate.damage().map_or(Ok(()), |damage| Err(RingError::FoundDamaged(damage)))
    }

    /// Replaces a damaged file.
    pub(super) fn replace_damaged(&mut self, error: &RingError) -> Result<(), RingError> {
        if self.replaced.is_some_and(|since| since.elapsed() < REPLACE_PAUSE) {
            return Err(RingError::DamagedAgain(report::chain(error)));
        }
        log::error!("{}", report::chain(error));
        self.replace(Origin::Damaged)
    }

    /// Begins a new ring; whatever stands at the name of the file is set aside.
    pub(super) fn replace(&mut self, origin: Origin) -> Result<(), RingError> {
        let gate = self.gate.clone();
        let mut present = gate.close();
        gate.forget_file();
        *present = None;
        if let Some(file) = self.file.take() {
            file::close_untouched(file.connection);
            // They are held no more. Those that are set aside can still be looked into.
            for class in Class::ALL.map(Class::index) {
                self.known.losses[class].lost += std::mem::take(&mut self.known.entries[class]);
            }
        }
        self.known.origin = origin;
        self.known.unsure = None;
        self.take_folder()?;
        damage::set_aside(&self.options, clock::wall_clock_ms())?;
        self.open_file()?;
        *present = self.database();
        self.replaced = Some(Instant::now());
        Ok(())
    }

    /// The database that is open.
    pub(super) fn database(&self) -> Option<FileId> {
        self.file.as_ref().and_then(|file| file.identity.database)
    }

    /// Opens the file, or makes one of what is known. Readers stay out until it is done.
    pub(super) fn open_file(&mut self) -> Result<(), RingError> {
        let known = &self.known;
        let beginning = Beginning {
            origin: known.origin,
            began_ms: clock::wall_clock_ms(),
            seq_base: known.last_seq,
            losses: known.losses,
            run_tag: self.run_tag,
            intents: known.intents.iter().map(|(number, call)| (*number, call.clone())).collect(),
        };
        let mut connection = file::open(&self.options, self.budget, &beginning)?;
        let begun = connection.transaction().and_then(|transaction| {
            let (tag, boot_id) = (self.run_tag, *self.options.boot_id.as_bytes());
            let run = begin_run(&transaction, tag, boot_id, self.options.started_ms)?;
            transaction.commit().map(|()| run)
        });
        let run = match begun.during("store the start of this run") {
            Ok(run) => run,
            Err(error) => {
                file::close_untouched(connection);
                return Err(error);
            }
        };
        let identity = Identity::of(&self.options.state_dir);
        self.file = Some(OpenFile { connection, identity, run, accounts: None, pages_at_most: None });
        let settled = self.settle_in();
        if settled.is_err()
            && let Some(file) = self.file.take()
        {
            file::close_untouched(file.connection);
        }
        settled
    }

    fn settle_in(&mut self) -> Result<(), RingError> {
        self.fit_limits()?;
        self.move_wal()?;
        file::reserve_wal(&self.options, self.budget);
        let identity = Identity::of(&self.options.state_dir);
        let file = self.file()?;
        file.identity = identity;
        file::keep_tidy(&file.connection)
    }

    /// Opens the file that was closed, or makes the one that could not be made.
    fn reopen(&mut self) -> Result<(), RingError> {
        let gate = self.gate.clone();
        let mut present = gate.close();
        self.take_folder()?;
        let Known { last_seq, losses, entries, .. } = self.known;
        self.open_file()?;
        if self.accounts()?.last_seq < last_seq {
            // Someone has put another ring there, or part of this one is gone.
            (self.known.last_seq, self.known.losses, self.known.entries) = (last_seq, losses, entries);
            let path = self.options.state_dir.join(file::FILE_NAME);
            return Err(RingError::Damaged { path, reason: "it lacks entries that were stored" });
        }
        *present = self.database();
        Ok(())
    }

    /// What is in the WAL that is open goes into the database, wherever the WAL's name has gone; then both are opened anew.
    fn rescue_wal(&mut self) -> Result<(), RingError> {
        let gate = self.gate.clone();
        {
            let mut present = gate.close();
            gate.forget_file();
            if !self.empty_wal()? {
                return Err(RingError::WalHeld);
            }
            if let Some(file) = self.file.take() {
                file::close_untouched(file.connection);
            }
            *present = None;
            damage::clear_orphans(&self.options, clock::wall_clock_ms())?;
        }
        self.reopen()
    }

    /// The state folder may have been made anew, by whomever: then it has to be taken anew.
    fn take_folder(&mut self) -> Result<(), RingError> {
        let failed = |source| RingError::File { act: "look at", path: self.options.state_dir.clone(), source };
        let held = FileId::from(self.lock.metadata().map_err(failed)?);
        if FileId::of(&self.options.state_dir).map_err(failed)? != Some(held) {
            self.lock = file::lock(&self.options.state_dir)?;
            self.floor = super::SeqFloor::open(&self.options.state_dir);
        }
        Ok(())
    }
}
