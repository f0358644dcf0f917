-- The ring file, schema version 3. See docs/design.md, "The ring file".
-- Times are milliseconds since 1970 (UTC) or microseconds since the boot. Ordinals and seqs start at 1.

-- The ring itself: one row.
CREATE TABLE ring (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch BLOB NOT NULL CHECK (length(epoch) = 16),
    created_ms INTEGER NOT NULL,
    -- The seq before this ring's first one: a ring that replaces a damaged one counts on.
    seq_base INTEGER NOT NULL CHECK (seq_base >= 0),
    -- Why it began: nothing came before it, or what came before is damaged or missing.
    origin TEXT NOT NULL DEFAULT 'first' CHECK (origin IN ('first', 'damaged', 'missing')),
    -- The same number as in `PRAGMA user_version`: where the two differ, the file is damaged and not of another version.
    schema_version INTEGER NOT NULL DEFAULT 3,
    -- Rows stored up to this seq have no sum, because a version before 2 stored them; null where all have one.
    sums_after INTEGER,
    -- Rows stored up to this seq hold their call themselves, because a version before 3 stored them; null where none does.
    calls_inline_until INTEGER
) STRICT;

-- What each class has lost, and where its ordinals go on when it is empty.
CREATE TABLE loss (
    class INTEGER PRIMARY KEY CHECK (class BETWEEN 0 AND 2),
    evicted INTEGER NOT NULL CHECK (evicted >= 0),
    dropped INTEGER NOT NULL CHECK (dropped >= 0),
    interrupted INTEGER NOT NULL CHECK (interrupted >= 0),
    -- Calls that have no entry of their own, because they are counted in another one; and the calls of what was evicted.
    coalesced INTEGER NOT NULL DEFAULT 0 CHECK (coalesced >= 0),
    evicted_calls INTEGER NOT NULL DEFAULT 0 CHECK (evicted_calls >= evicted),
    -- Entries of rings before this one that were damaged or missing, as far as it was known how many.
    lost INTEGER NOT NULL DEFAULT 0 CHECK (lost >= 0)
) STRICT;

-- One run of the agent. Its tag is part of the IDs of the entries that it numbered.
CREATE TABLE run (
    number INTEGER PRIMARY KEY,
    tag INTEGER NOT NULL CHECK (tag BETWEEN 0 AND 0xffffff),
    boot_id BLOB NOT NULL CHECK (length(boot_id) = 16),
    started_ms INTEGER NOT NULL,
    version TEXT NOT NULL
) STRICT;

-- The operations that entries name by number.
CREATE TABLE operation (
    number INTEGER PRIMARY KEY,
    operation_id TEXT NOT NULL,
    permission TEXT NOT NULL
) STRICT;

-- Consecutive entries that are evicted together. The newest ones of each class have no row yet.
CREATE TABLE extent (
    class INTEGER NOT NULL CHECK (class BETWEEN 0 AND 2),
    first_ordinal INTEGER NOT NULL CHECK (first_ordinal > 0),
    entries INTEGER NOT NULL CHECK (entries > 0),
    charge_bytes INTEGER NOT NULL CHECK (charge_bytes > 0),
    PRIMARY KEY (class, first_ordinal)
) STRICT, WITHOUT ROWID;

-- Changes that were begun: stored before the handler runs, removed in the transaction that stores the outcome.
CREATE TABLE intent (
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    monotonic_us INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL CHECK (clock_synced BETWEEN 0 AND 1),
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    operation INTEGER,
    user TEXT NOT NULL,
    roles TEXT NOT NULL,
    token_id TEXT,
    auth_method INTEGER NOT NULL CHECK (auth_method BETWEEN 0 AND 255),
    source_ip BLOB NOT NULL CHECK (length(source_ip) IN (4, 16)),
    trace_id BLOB CHECK (length(trace_id) = 16),
    user_agent TEXT,
    forwarded_for BLOB CHECK (length(forwarded_for) IN (4, 16)),
    sum INTEGER
) STRICT;

-- What many calls of a class have in common: stored with the first entry of an extent that has it, and named by those of the same
-- extent that have it too, so it is evicted with them. `run` and `operation` are numbers of the tables above, `roles` has a line
-- each, an address is 4 or 16 bytes in network order, `auth_method` 0 is none.
CREATE TABLE change_common (
    -- The seq of that first entry.
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    operation INTEGER,
    user TEXT NOT NULL,
    roles TEXT NOT NULL,
    token_id TEXT,
    auth_method INTEGER NOT NULL CHECK (auth_method BETWEEN 0 AND 255),
    source_ip BLOB NOT NULL CHECK (length(source_ip) IN (4, 16)),
    user_agent TEXT
) STRICT;

CREATE TABLE read_common (
    -- The seq of that first entry.
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    operation INTEGER,
    user TEXT NOT NULL,
    roles TEXT NOT NULL,
    token_id TEXT,
    auth_method INTEGER NOT NULL CHECK (auth_method BETWEEN 0 AND 255),
    source_ip BLOB NOT NULL CHECK (length(source_ip) IN (4, 16)),
    user_agent TEXT
) STRICT;

CREATE TABLE denied_common (
    -- The seq of that first entry.
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    operation INTEGER,
    user TEXT NOT NULL,
    roles TEXT NOT NULL,
    token_id TEXT,
    auth_method INTEGER NOT NULL CHECK (auth_method BETWEEN 0 AND 255),
    source_ip BLOB NOT NULL CHECK (length(source_ip) IN (4, 16)),
    user_agent TEXT
) STRICT;

-- One table a class. The clustered key is gap-free, so that counting and paging need no index. `common` is the number of a row of
-- the table above, `sum` the CRC-32 of the row and of what it names (src/audit/ring/sum.rs), as a signed number.
CREATE TABLE change (
    ordinal INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL CHECK (seq > 0),
    outcome INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 4),
    response_code INTEGER NOT NULL CHECK (response_code BETWEEN 0 AND 999),
    duration_us INTEGER NOT NULL CHECK (duration_us >= 0),
    timestamp_ms INTEGER NOT NULL,
    monotonic_us INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL CHECK (clock_synced BETWEEN 0 AND 1),
    common INTEGER NOT NULL,
    sum INTEGER,
    trace_id BLOB CHECK (length(trace_id) = 16),
    forwarded_for BLOB CHECK (length(forwarded_for) IN (4, 16))
) STRICT;

CREATE TABLE read (
    ordinal INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL CHECK (seq > 0),
    outcome INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 4),
    response_code INTEGER NOT NULL CHECK (response_code BETWEEN 0 AND 999),
    duration_us INTEGER NOT NULL CHECK (duration_us >= 0),
    timestamp_ms INTEGER NOT NULL,
    monotonic_us INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL CHECK (clock_synced BETWEEN 0 AND 1),
    common INTEGER NOT NULL,
    sum INTEGER,
    trace_id BLOB CHECK (length(trace_id) = 16),
    forwarded_for BLOB CHECK (length(forwarded_for) IN (4, 16))
) STRICT;

CREATE TABLE denied (
    ordinal INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL CHECK (seq > 0),
    outcome INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 4),
    response_code INTEGER NOT NULL CHECK (response_code BETWEEN 0 AND 999),
    duration_us INTEGER NOT NULL CHECK (duration_us >= 0),
    timestamp_ms INTEGER NOT NULL,
    monotonic_us INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL CHECK (clock_synced BETWEEN 0 AND 1),
    -- A flood of refused calls is stored in entries that stand for several: how many, and from the first to the last of them.
    calls INTEGER NOT NULL CHECK (calls > 0),
    span_us INTEGER NOT NULL CHECK (span_us >= 0),
    common INTEGER NOT NULL,
    sum INTEGER,
    trace_id BLOB CHECK (length(trace_id) = 16),
    forwarded_for BLOB CHECK (length(forwarded_for) IN (4, 16))
) STRICT;

-- All entries with what they have in common, for whoever reads the file with another program.
CREATE VIEW entry AS
SELECT 'change' AS class, seq, outcome, response_code, duration_us, timestamp_ms, monotonic_us, clock_synced, run, method, path,
    operation, user, roles, token_id, auth_method, source_ip, user_agent, trace_id, forwarded_for, 1 AS calls, 0 AS span_us
    FROM change JOIN change_common ON number = common
UNION ALL
SELECT 'read' AS class, seq, outcome, response_code, duration_us, timestamp_ms, monotonic_us, clock_synced, run, method, path,
    operation, user, roles, token_id, auth_method, source_ip, user_agent, trace_id, forwarded_for, 1 AS calls, 0 AS span_us
    FROM read JOIN read_common ON number = common
UNION ALL
SELECT 'denied' AS class, seq, outcome, response_code, duration_us, timestamp_ms, monotonic_us, clock_synced, run, method, path,
    operation, user, roles, token_id, auth_method, source_ip, user_agent, trace_id, forwarded_for, calls, span_us
    FROM denied JOIN denied_common ON number = common;
