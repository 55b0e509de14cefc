//! The SQL adapter: exactly-one-effect writes into PostgreSQL, MariaDB/MySQL and SQLite.
