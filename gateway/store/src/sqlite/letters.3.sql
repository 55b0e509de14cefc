-- Merged records: what each source of a route last said of a key, as one JSON text. `epoch` counts the changes.
CREATE TABLE merged (
  route TEXT NOT NULL,
  key   TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (route, key)
) STRICT, WITHOUT ROWID;
