-- How far each source that is read has been read. `epoch` counts the readers: only the newest may save.
CREATE TABLE cursor (
  name  TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL,
  value TEXT
) STRICT, WITHOUT ROWID;
