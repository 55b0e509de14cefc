-- Deliveries with order that died, and those that came after them: each waits until those of its line and key before it are gone.
CREATE TABLE in_line (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  line        TEXT NOT NULL,
  key         TEXT NOT NULL,
  delivery_id TEXT NOT NULL UNIQUE
) STRICT;
CREATE INDEX in_line_key ON in_line (line, key, seq);
