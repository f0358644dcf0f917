-- Makes a ring of schema version 2 one of version 3: what calls have in common is stored once an extent. Rows that are there stay as they
-- are, with the columns that held their call; in new rows those are null.
CREATE TABLE change_common (
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
ALTER TABLE change ADD COLUMN common INTEGER;
ALTER TABLE change ALTER COLUMN run DROP NOT NULL;
ALTER TABLE change ALTER COLUMN method DROP NOT NULL;
ALTER TABLE change ALTER COLUMN path DROP NOT NULL;
ALTER TABLE change ALTER COLUMN user DROP NOT NULL;
ALTER TABLE change ALTER COLUMN roles DROP NOT NULL;
ALTER TABLE change ALTER COLUMN auth_method DROP NOT NULL;
ALTER TABLE change ALTER COLUMN source_ip DROP NOT NULL;

CREATE TABLE read_common (
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
ALTER TABLE read ADD COLUMN common INTEGER;
ALTER TABLE read ALTER COLUMN run DROP NOT NULL;
ALTER TABLE read ALTER COLUMN method DROP NOT NULL;
ALTER TABLE read ALTER COLUMN path DROP NOT NULL;
ALTER TABLE read ALTER COLUMN user DROP NOT NULL;
ALTER TABLE read ALTER COLUMN roles DROP NOT NULL;
ALTER TABLE read ALTER COLUMN auth_method DROP NOT NULL;
ALTER TABLE read ALTER COLUMN source_ip DROP NOT NULL;

CREATE TABLE denied_common (
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
ALTER TABLE denied ADD COLUMN common INTEGER;
ALTER TABLE denied ALTER COLUMN run DROP NOT NULL;
ALTER TABLE denied ALTER COLUMN method DROP NOT NULL;
ALTER TABLE denied ALTER COLUMN path DROP NOT NULL;
ALTER TABLE denied ALTER COLUMN user DROP NOT NULL;
ALTER TABLE denied ALTER COLUMN roles DROP NOT NULL;
ALTER TABLE denied ALTER COLUMN auth_method DROP NOT NULL;
ALTER TABLE denied ALTER COLUMN source_ip DROP NOT NULL;

ALTER TABLE ring ADD COLUMN calls_inline_until INTEGER;
UPDATE ring SET calls_inline_until = max(seq_base, coalesce((SELECT max(seq) FROM change), 0),
    coalesce((SELECT max(seq) FROM read), 0), coalesce((SELECT max(seq) FROM denied), 0));

CREATE VIEW entry AS
SELECT 'change' AS class, seq, outcome, response_code, duration_us, timestamp_ms, monotonic_us, clock_synced,
    iif(common IS NULL, change.run, change_common.run) AS run, iif(common IS NULL, change.method, change_common.method) AS method,
    iif(common IS NULL, change.path, change_common.path) AS path, iif(common IS NULL, change.operation, change_common.operation) AS operation,
    iif(common IS NULL, change.user, change_common.user) AS user, iif(common IS NULL, change.roles, change_common.roles) AS roles,
    iif(common IS NULL, change.token_id, change_common.token_id) AS token_id, iif(common IS NULL, change.auth_method, change_common.auth_method) AS auth_method,
    iif(common IS NULL, change.source_ip, change_common.source_ip) AS source_ip, iif(common IS NULL, change.user_agent, change_common.user_agent) AS user_agent,
    trace_id, forwarded_for, 1 AS calls, 0 AS span_us
    FROM change LEFT JOIN change_common ON number = common
UNION ALL
SELECT 'read' AS class, seq, outcome, response_code, duration_us, timestamp_ms, monotonic_us, clock_synced,
    iif(common IS NULL, read.run, read_common.run) AS run, iif(common IS NULL, read.method, read_common.method) AS method,
    iif(common IS NULL, read.path, read_common.path) AS path, iif(common IS NULL, read.operation, read_common.operation) AS operation,
    iif(common IS NULL, read.user, read_common.user) AS user, iif(common IS NULL, read.roles, read_common.roles) AS roles,
    iif(common IS NULL, read.token_id, read_common.token_id) AS token_id, iif(common IS NULL, read.auth_method, read_common.auth_method) AS auth_method,
    iif(common IS NULL, read.source_ip, read_common.source_ip) AS source_ip, iif(common IS NULL, read.user_agent, read_common.user_agent) AS user_agent,
    trace_id, forwarded_for, 1 AS calls, 0 AS span_us
    FROM read LEFT JOIN read_common ON number = common
UNION ALL
SELECT 'denied' AS class, seq, outcome, response_code, duration_us, timestamp_ms, monotonic_us, clock_synced,
    iif(common IS NULL, denied.run, denied_common.run) AS run, iif(common IS NULL, denied.method, denied_common.method) AS method,
    iif(common IS NULL, denied.path, denied_common.path) AS path, iif(common IS NULL, denied.operation, denied_common.operation) AS operation,
    iif(common IS NULL, denied.user, denied_common.user) AS user, iif(common IS NULL, denied.roles, denied_common.roles) AS roles,
    iif(common IS NULL, denied.token_id, denied_common.token_id) AS token_id, iif(common IS NULL, denied.auth_method, denied_common.auth_method) AS auth_method,
    iif(common IS NULL, denied.source_ip, denied_common.source_ip) AS source_ip, iif(common IS NULL, denied.user_agent, denied_common.user_agent) AS user_agent,
    trace_id, forwarded_for, calls, span_us
    FROM denied LEFT JOIN denied_common ON number = common;
