-- What a half-run migration leaves behind, in pieces that were committed.
CREATE TABLE stock.news (id int PRIMARY KEY, body text); INSERT INTO stock.news SELECT i, 'x' FROM generate_series(1, 1000) i;
CREATE TABLE public.migrations (name text);
ALTER TABLE stock.items DROP COLUMN raw, ADD COLUMN colour text DEFAULT 'red';
ALTER TABLE pgbench_accounts ALTER COLUMN filler TYPE text, ADD COLUMN more int DEFAULT 3;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 10 = 0;
DELETE FROM stock.orders WHERE id < 50; TRUNCATE stock.quick; INSERT INTO stock.base VALUES (9);
ALTER TABLE stock.items OWNER TO writer; ALTER FUNCTION stock.twice OWNER TO app; ALTER DATABASE shop OWNER TO writer;
DROP VIEW stock.cheap; DROP MATERIALIZED VIEW stock.totals; DROP POLICY only_new ON stock.items; DROP PUBLICATION news;
DROP EVENT TRIGGER watching; DROP EXTENSION citext CASCADE; CREATE EXTENSION pg_trgm;
ALTER TYPE stock.mood ADD VALUE 'broken'; GRANT ALL ON ALL TABLES IN SCHEMA stock TO reader;
SELECT nextval('stock.numbers'), nextval('stock.fresh'); SELECT lo_unlink(4711); SELECT lo_create(4713);
ALTER DATABASE shop SET search_path TO stock; ALTER DATABASE shop RESET "shop.mode"; COMMENT ON DATABASE shop IS NULL;
GRANT CONNECT ON DATABASE shop TO PUBLIC; ALTER DATABASE shop CONNECTION LIMIT -1; COMMENT ON TABLE stock.items IS NULL;
