-- journal.db, version 1: every event of every transaction, in the order they happened.
-- Rows are only ever added. `hash` is the BLAKE3 of these fields, each behind its length in bytes (u64, little
-- endian): previous (32 bytes; zeros for the first row), seq (u64, little endian), tx, at, event as stored here.
-- `previous` is the hash of the row before.
CREATE TABLE event (
  seq      INTEGER PRIMARY KEY,     -- 1, 2, 3 … without a gap
  tx       TEXT NOT NULL,           -- notes-3
  at       TEXT NOT NULL,           -- RFC 3339, UTC, nanoseconds
  event    TEXT NOT NULL,           -- JSON, as in event.schema.json
  previous BLOB NOT NULL,
  hash     BLOB NOT NULL
) STRICT;
CREATE INDEX event_of_tx ON event (tx, seq);
CREATE TRIGGER event_is_added_at_the_end BEFORE INSERT ON event
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM event)
BEGIN SELECT RAISE(ABORT, 'an event is only ever added at the end'); END;
CREATE TRIGGER event_is_not_changed BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'an event that has happened is not changed'); END;
CREATE TRIGGER event_is_not_removed BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'an event that has happened is not removed'); END;
PRAGMA application_id = 1954051440; -- "txup"
PRAGMA user_version = 1;
