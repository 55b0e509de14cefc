-- Merged records: what each source of a route last said of a key, as one JSON text, and until when one gateway alone may
-- change it. `epoch` counts those who took it: only the newest may save.
CREATE TABLE merged (
  route text NOT NULL,
  key   text NOT NULL,
  epoch bigint NOT NULL,
  value text,
  until timestamptz NOT NULL,
  PRIMARY KEY (route, key)
);
