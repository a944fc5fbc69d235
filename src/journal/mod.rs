//! The append-only, hash-chained record of events; the only truth. SQLite on disk, and a twin in memory for property tests.
