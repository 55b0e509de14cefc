-- Dead letters, audit and ledger. Bodies stand apart, so that lists are quick. Hash indexes where a text may be of any length.
CREATE TABLE letter (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  delivery_id   text NOT NULL UNIQUE,
  message_id    text NOT NULL,
  state         text NOT NULL CHECK (state IN ('open', 'claimed', 'published', 'resolved', 'discarded')),
  route         text,
  target        text,
  target_system text,
  source        text NOT NULL,
  source_system text NOT NULL,
  kind          text,
  key           text,
  cause         text NOT NULL,
  fingerprint   text NOT NULL,
  text          text NOT NULL,
  attempts      bigint NOT NULL,
  created       timestamptz NOT NULL,
  changed       timestamptz NOT NULL DEFAULT now(),
  revision      bigint NOT NULL DEFAULT 0,
  discarded     text,
  claimed_by    text,
  claimed_at    timestamptz,
  lease         interval,
  lease_until   timestamptz
);
CREATE INDEX letter_state ON letter (state, id);
CREATE INDEX letter_key ON letter USING hash (key);
CREATE INDEX letter_message ON letter USING hash (message_id);

CREATE TABLE letter_body (
  letter       bigint PRIMARY KEY REFERENCES letter (id) ON DELETE CASCADE,
  headers      text NOT NULL,
  content_type text NOT NULL,
  sha256       bytea NOT NULL,
  body         bytea NOT NULL,
  original     bytea
);

CREATE TABLE attempt (
  letter   bigint NOT NULL REFERENCES letter (id) ON DELETE CASCADE,
  number   bigint NOT NULL,
  at       timestamptz NOT NULL,
  instance text NOT NULL,
  code     text NOT NULL,
  text     text NOT NULL,
  sent     text,
  answered text,
  PRIMARY KEY (letter, number)
);

CREATE TABLE audit (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      timestamptz NOT NULL,
  actor   text NOT NULL,
  action  text NOT NULL,
  subject text NOT NULL,
  detail  text NOT NULL,
  hash    bytea NOT NULL
);

-- The newest hash; its row is the lock that puts the entries of several gateways into one order.
CREATE TABLE audit_head (
  one  bigint PRIMARY KEY CHECK (one = 1),
  hash bytea NOT NULL
);
INSERT INTO audit_head VALUES (1, decode(repeat('00', 32), 'hex'));

CREATE TABLE seen (
  source     text NOT NULL,
  message_id text NOT NULL,
  body_hash  bytea NOT NULL,
  at         timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, message_id)
);

CREATE TABLE done (
  delivery_id text PRIMARY KEY,
  at          timestamptz NOT NULL DEFAULT now()
);
