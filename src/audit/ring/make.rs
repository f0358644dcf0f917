//! A new ring: made whole under another name, so that a power cut leaves either no ring or all of one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{TransactionBehavior, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::accounts::{Accounts, Loss, begin_run};
use super::error::During as _;
use super::file::{APPLICATION_ID, FILE_NAME, beside, shm_of, sync_dir};
use super::version::SchemaVersion;
use super::{IntentNumber, RingError, RingOptions, damage, intent};
use crate::audit::budget::PAGE_BYTES;
use crate::audit::class::Class;
use crate::audit::entry::{Call, Seq};

const SCHEMA: &str = include_str!("../schema.sql");

/// Why a ring began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nothing came before it.
    First,
    /// What came before it is damaged and set aside.
    Damaged,
    /// What came before it is gone.
    Missing,
}

impl Origin {
    /// As stored and served.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
        }
    }

    pub(in crate::audit) fn parse(text: &str) -> Option<Self> {
        [Self::First, Self::Damaged, Self::Missing].into_iter().find(|origin| origin.as_str() == text)
    }
}

/// What a new ring begins with: all that is known of the one before it.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) origin: Origin,
    pub(super) began_ms: i64,
    /// Above it the seqs go on.
    pub(super) seq_base: Seq,
    pub(super) losses: [Loss; 3],
    /// Of the run that makes it.
    pub(super) run_tag: u32,
    /// Changes of this run that have begun and not ended.
    pub(super) intents: Vec<(IntentNumber, Call)>,
}

/// Makes the ring file where there is none.
pub(super) fn make(options: &RingOptions, beginning: &Beginning) -> Result<(), RingError> {
    let path = options.state_dir.join(FILE_NAME);
    let new = beside(&path, ".new");
    // A WAL without its database would be taken for the new one's.
    damage::clear_orphans(options, beginning.began_ms)?;
    for leftover in [&new, &beside(&new, "-journal"), &shm_of(&path)] {
        remove(leftover)?;
    }
    let failed = |act| {
        let path = new.clone();
        move |source| RingError::File { act, path, source }
    };
    // SQLite gives its WAL the same mode.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed("make"))?;
    let epoch = uuid::Builder::from_random_bytes(random()?).into_uuid();
    fill(options, &new, epoch, beginning).during("make the ring's tables")?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(failed("sync"))?;
    fs::rename(&new, &path).map_err(failed("give its name to"))?;
    sync_dir(&options.state_dir).map_err(failed("sync the name of"))?;
    let Beginning { origin, seq_base, .. } = beginning;
    log::info!("new ring with epoch {epoch}, origin {}, after seq {}", origin.as_str(), seq_base.0);
    Ok(())
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> Result<[u8; N], RingError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| RingError::Random)?;
    Ok(bytes)
}

fn fill(options: &RingOptions, new: &Path, epoch: uuid::Uuid, beginning: &Beginning) -> rusqlite::Result<()> {
    let mut connection = rusqlite::Connection::open_with_flags(new, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    // A half-made file is thrown away, so there is nothing to roll back.
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    let Beginning { origin, began_ms, seq_base, losses, run_tag, intents } = beginning;
    transaction.execute(
        "INSERT INTO ring (id, epoch, created_ms, seq_base, origin) VALUES (1, ?1, ?2, ?3, ?4)",
        params![epoch.as_bytes(), began_ms, seq_base.0, origin.as_str()],
    )?;
    for class in Class::ALL {
        losses[class.index()].insert(&transaction, class)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SchemaVersion::CURRENT)?;
    let run = begin_run(&transaction, *run_tag, *options.boot_id.as_bytes(), options.started_ms)?;
    let mut accounts = Accounts::load(&transaction, options.limits())?;
    for (number, call) in intents {
        let operation = accounts.operation_number(&transaction, call)?;
        intent::insert(&transaction, &run, *number, call, operation)?;
    }
    transaction.commit()
}

fn remove(path: &Path) -> Result<(), RingError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RingError::File { act: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
