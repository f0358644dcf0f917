-- Makes a ring of schema version 1 one of version 2: rows get a sum, refused calls can be stored several in one entry.
ALTER TABLE ring ADD COLUMN origin TEXT NOT NULL DEFAULT 'first'
    CHECK (origin IN ('first', 'damaged', 'missing'));
ALTER TABLE loss ADD COLUMN coalesced INTEGER NOT NULL DEFAULT 0 CHECK (coalesced >= 0);
ALTER TABLE loss ADD COLUMN evicted_calls INTEGER NOT NULL DEFAULT 0;
UPDATE loss SET evicted_calls = evicted;
ALTER TABLE denied ADD COLUMN calls INTEGER NOT NULL DEFAULT 1 CHECK (calls > 0);
ALTER TABLE denied ADD COLUMN span_us INTEGER NOT NULL DEFAULT 0 CHECK (span_us >= 0);
ALTER TABLE ring ADD COLUMN schema_version INTEGER NOT NULL DEFAULT 2;
ALTER TABLE ring ADD COLUMN sums_after INTEGER;
UPDATE ring SET sums_after = max(seq_base, coalesce((SELECT max(seq) FROM change), 0),
    coalesce((SELECT max(seq) FROM read), 0), coalesce((SELECT max(seq) FROM denied), 0));
ALTER TABLE loss ADD COLUMN lost INTEGER NOT NULL DEFAULT 0 CHECK (lost >= 0);
ALTER TABLE intent ADD COLUMN sum INTEGER;
ALTER TABLE change ADD COLUMN sum INTEGER;
ALTER TABLE read ADD COLUMN sum INTEGER;
ALTER TABLE denied ADD COLUMN sum INTEGER;
