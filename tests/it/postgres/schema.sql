-- One of everything that a database can hold, belonging to several roles.
CREATE ROLE app LOGIN;
CREATE ROLE reader;
CREATE ROLE writer;
ALTER DATABASE shop OWNER TO app;
ALTER DATABASE shop SET search_path TO "$user", public, stock;
ALTER DATABASE shop SET "shop.mode" TO 'it''s live';
ALTER ROLE reader IN DATABASE shop SET statement_timeout TO '5s';
ALTER DATABASE shop CONNECTION LIMIT 50;
COMMENT ON DATABASE shop IS 'the shop''s own';
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO reader, writer;
GRANT CREATE ON DATABASE shop TO writer WITH GRANT OPTION;

CREATE SCHEMA stock AUTHORIZATION app;
GRANT USAGE ON SCHEMA stock TO reader;
CREATE EXTENSION hstore SCHEMA stock;
CREATE EXTENSION citext;
CREATE TYPE stock.mood AS ENUM ('new', 'used');
CREATE TYPE stock.pair AS (a int, b text);
CREATE DOMAIN stock.price AS numeric(10,2) CHECK (VALUE >= 0);
CREATE COLLATION stock.german (provider = icu, locale = 'de-DE');
CREATE FUNCTION stock.touch() RETURNS trigger LANGUAGE plpgsql AS $$
--
-- Name: not; Type: AN ENTRY; Schema: -; Owner: -
--
BEGIN NEW.changed := '2026-01-01'; RETURN NEW; END $$;
CREATE FUNCTION stock.twice(x int) RETURNS int LANGUAGE sql IMMUTABLE RETURN x * 2;
CREATE AGGREGATE stock.product(int) (SFUNC = int4mul, STYPE = int, INITCOND = '1');
CREATE PROCEDURE stock.nothing() LANGUAGE sql AS 'SELECT 1';

CREATE TABLE stock.items (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name varchar(40) NOT NULL CHECK (name IN ('pen', 'ink', 'pad', 'cup')),
  title text COLLATE stock.german, mail citext, tags stock.hstore, kind stock.mood DEFAULT 'new', cost stock.price,
  both_ways stock.pair, doc jsonb, raw bytea, seen timestamptz, gap interval, ratio float8, dropped int,
  words tsvector GENERATED ALWAYS AS (to_tsvector('simple', coalesce(title, ''))) STORED, changed date
);
ALTER TABLE stock.items DROP COLUMN dropped;
CREATE TRIGGER touch BEFORE UPDATE ON stock.items FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title) EXECUTE FUNCTION stock.touch();
INSERT INTO stock.items (name, title, mail, tags, cost, both_ways, doc, raw, seen, gap, ratio)
  SELECT (ARRAY['pen', 'ink', 'pad', 'cup'])[1 + i % 4], E'tab\there\nline ' || i, 'A' || i || '@x', stock.hstore('k', i::text), i / 3.0,
    ROW(i, 'b')::stock.pair, jsonb_build_object('i', i), decode(md5(i::text), 'hex'), '2026-01-01'::timestamptz + i * '1 min'::interval, '1 mon 2 days', i / 7.0
  FROM generate_series(1, 500) i;
CREATE INDEX by_title ON stock.items (lower(title)) WHERE kind = 'new';
CREATE INDEX by_words ON stock.items USING gin (words);
CREATE STATISTICS stock.both ON name, kind FROM stock.items;
CREATE TABLE stock.orders (
  id int, at date NOT NULL, item bigint REFERENCES stock.items ON DELETE CASCADE, note text, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE stock.orders_25 PARTITION OF stock.orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE stock.orders_rest PARTITION OF stock.orders DEFAULT;
INSERT INTO stock.orders SELECT i, '2025-12-01'::date + i, i, 'n' || i FROM generate_series(1, 100) i;
CREATE TABLE stock.base (a int); CREATE TABLE stock.derived (b int) INHERITS (stock.base);
INSERT INTO stock.base VALUES (1); INSERT INTO stock.derived VALUES (2, 3);
CREATE UNLOGGED TABLE stock.quick (a int, EXCLUDE USING btree (a WITH =)); INSERT INTO stock.quick VALUES (1);
CREATE TABLE "Odd ""name""; é" ("t" text, "the row" text); INSERT INTO "Odd ""name""; é" VALUES ('x', 'y');
CREATE TABLE nothing_at_all ();
CREATE SEQUENCE stock.numbers INCREMENT 5; SELECT nextval('stock.numbers'), nextval('stock.numbers');
CREATE SEQUENCE stock.fresh START 7;
CREATE VIEW stock.cheap WITH (security_barrier) AS SELECT id, name FROM stock.items WHERE cost < 10 AND name IN ('pen', 'ink');
CREATE MATERIALIZED VIEW stock.totals AS SELECT name, count(*) AS n FROM stock.items GROUP BY name;
CREATE MATERIALIZED VIEW stock.empty AS SELECT 1 AS one WITH NO DATA;
CREATE RULE no_delete AS ON DELETE TO stock.base DO INSTEAD NOTHING;
ALTER TABLE stock.items ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_new ON stock.items FOR SELECT TO reader USING (kind = 'new');
CREATE FOREIGN DATA WRAPPER files; CREATE SERVER away FOREIGN DATA WRAPPER files;
CREATE FOREIGN TABLE stock.far (a int) SERVER away;
CREATE PUBLICATION news FOR TABLE stock.base;
CREATE FUNCTION stock.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION stock.watch();
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA stock GRANT SELECT ON TABLES TO reader;
ALTER TABLE stock.items OWNER TO app; ALTER TABLE stock.orders OWNER TO writer; ALTER FUNCTION stock.twice OWNER TO writer;
GRANT SELECT (id, name) ON stock.items TO reader; GRANT INSERT ON stock.orders TO app WITH GRANT OPTION;
COMMENT ON TABLE stock.items IS 'what there is'; COMMENT ON COLUMN stock.items.name IS 'its name';
SELECT lo_from_bytea(4711, 'one large object'); SELECT lo_from_bytea(4712, convert_to(repeat('0123456789', 1000), 'UTF8'));
ALTER LARGE OBJECT 4711 OWNER TO app; GRANT SELECT ON LARGE OBJECT 4711 TO reader;
