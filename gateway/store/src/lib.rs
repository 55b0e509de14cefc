//! What Gatehouse remembers: dead letters, dedupe keys, delivery outcomes, audit; SQLite and PostgreSQL.
