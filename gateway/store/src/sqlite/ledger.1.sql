-- Ids that came in, and deliveries that their targets have taken. `at`: milliseconds since 1970. No further index: these are
-- written for every message.
CREATE TABLE seen (
  source     TEXT NOT NULL,
  message_id TEXT NOT NULL,
  body_hash  BLOB NOT NULL,
  at         INTEGER NOT NULL,
  PRIMARY KEY (source, message_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE done (
  delivery_id TEXT PRIMARY KEY,
  at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
