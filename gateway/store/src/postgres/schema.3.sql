-- Backfills, each cut into slices that are read one after the other.
CREATE TABLE backfill (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  state    text NOT NULL CHECK (state IN ('running', 'paused', 'cancelled', 'done')),
  route    text NOT NULL,
  endpoint text NOT NULL,
  again    boolean NOT NULL,
  rate     text NOT NULL,
  expected bigint,
  actor    text NOT NULL,
  created  timestamptz NOT NULL DEFAULT now(),
  changed  timestamptz NOT NULL DEFAULT now(),
  problem  text
);

CREATE TABLE backfill_slice (
  backfill   bigint NOT NULL REFERENCES backfill (id) ON DELETE CASCADE,
  number     bigint NOT NULL,
  source     text NOT NULL,
  by_column  text NOT NULL,
  from_value text,
  to_value   text,
  after      text,
  done       boolean NOT NULL DEFAULT false,
  read       bigint NOT NULL DEFAULT 0,
  accepted   bigint NOT NULL DEFAULT 0,
  recognised bigint NOT NULL DEFAULT 0,
  dropped    bigint NOT NULL DEFAULT 0,
  refused    bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (backfill, number)
);
