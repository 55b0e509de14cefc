-- Deliveries with order that died, and those that came after them: each waits until those of its line and key before it are gone.
CREATE TABLE in_line (
  seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  line        text NOT NULL,
  key         text NOT NULL,
  delivery_id text NOT NULL UNIQUE
);
CREATE INDEX in_line_key ON in_line (line, key, seq);
