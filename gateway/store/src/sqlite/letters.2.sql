-- Backfills, each cut into slices that are read one after the other.
CREATE TABLE backfill (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  state    TEXT NOT NULL CHECK (state IN ('running', 'paused', 'cancelled', 'done')),
  route    TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  again    INTEGER NOT NULL,
  rate     TEXT NOT NULL,
  expected INTEGER,
  actor    TEXT NOT NULL,
  created  TEXT NOT NULL,
  changed  TEXT NOT NULL,
  problem  TEXT
) STRICT;

CREATE TABLE backfill_slice (
  backfill   INTEGER NOT NULL REFERENCES backfill (id) ON DELETE CASCADE,
  number     INTEGER NOT NULL,
  source     TEXT NOT NULL,
  by_column  TEXT NOT NULL,
  from_value TEXT,
  to_value   TEXT,
  after      TEXT,
  done       INTEGER NOT NULL DEFAULT 0,
  read       INTEGER NOT NULL DEFAULT 0,
  accepted   INTEGER NOT NULL DEFAULT 0,
  recognised INTEGER NOT NULL DEFAULT 0,
  dropped    INTEGER NOT NULL DEFAULT 0,
  refused    INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (backfill, number)
) STRICT;
