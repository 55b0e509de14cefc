-- How far each source that is read has been read, and until when one gateway alone may read it. `epoch` counts the readers:
-- only the newest may save.
CREATE TABLE cursor (
  name  text PRIMARY KEY,
  epoch bigint NOT NULL,
  value text,
  until timestamptz NOT NULL
);
