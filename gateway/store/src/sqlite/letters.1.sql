-- Dead letters and audit. Times are UTC texts of one length, so that they sort; bodies stand apart, so that lists are quick.
CREATE TABLE letter (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  delivery_id   TEXT NOT NULL UNIQUE,
  message_id    TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('open', 'claimed', 'published', 'resolved', 'discarded')),
  route         TEXT,
  target        TEXT,
  target_system TEXT,
  source        TEXT NOT NULL,
  source_system TEXT NOT NULL,
  kind          TEXT,
  key           TEXT,
  cause         TEXT NOT NULL,
  fingerprint   TEXT NOT NULL,
  text          TEXT NOT NULL,
  attempts      INTEGER NOT NULL,
  created       TEXT NOT NULL,
  changed       TEXT NOT NULL,
  revision      INTEGER NOT NULL DEFAULT 0,
  discarded     TEXT,
  claimed_by    TEXT,
  claimed_at    TEXT,
  lease_ms      INTEGER,
  lease_until   TEXT
) STRICT;
CREATE INDEX letter_state ON letter (state, id);
CREATE INDEX letter_key ON letter (key) WHERE key IS NOT NULL;
CREATE INDEX letter_message ON letter (message_id);

CREATE TABLE letter_body (
  letter       INTEGER PRIMARY KEY REFERENCES letter (id) ON DELETE CASCADE,
  headers      TEXT NOT NULL,
  content_type TEXT NOT NULL,
  sha256       BLOB NOT NULL,
  body         BLOB NOT NULL,
  original     BLOB
) STRICT;

CREATE TABLE attempt (
  letter   INTEGER NOT NULL REFERENCES letter (id) ON DELETE CASCADE,
  number   INTEGER NOT NULL,
  at       TEXT NOT NULL,
  instance TEXT NOT NULL,
  code     TEXT NOT NULL,
  text     TEXT NOT NULL,
  sent     TEXT,
  answered TEXT,
  PRIMARY KEY (letter, number)
) STRICT;

CREATE TABLE audit (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at      TEXT NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL,
  hash    BLOB NOT NULL
) STRICT;

CREATE TABLE audit_head (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  hash BLOB NOT NULL
) STRICT;
