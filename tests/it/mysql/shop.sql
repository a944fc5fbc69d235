-- A schema with everything that a dump has to bring back.
CREATE DATABASE other;
CREATE TABLE other.o(id int PRIMARY KEY, k int);
INSERT INTO other.o VALUES (1, 1), (2, 2);
CREATE DATABASE shop CHARACTER SET latin1 COLLATE latin1_german2_ci;
USE shop;

CREATE TABLE parent(
  id int AUTO_INCREMENT PRIMARY KEY, name varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, plain varchar(50), d double,
  b longblob, ts timestamp NULL, dt datetime(6), bt bit(5), js json, en enum('a', 'b'), price decimal(20, 10), y year,
  tm time(3)) AUTO_INCREMENT = 100;
INSERT INTO parent(name, plain, d, b, ts, dt, bt, js, en, price, y, tm) VALUES
  ('ä€😀\n\t\\', 'Größe', 3.141592653589793, x'00ff0a0d1a27225c', '2024-02-29 12:00:00', '2020-01-01 00:00:00.123456', b'10101',
   '{"a": 1}', 'a', 1.5, 1999, '-11:22:33.444'),
  (NULL, NULL, 1e300, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  ('', 'NULL', -0.1, '', '1970-01-02 00:00:00', '0000-00-00', b'0', '[]', 'b', 0, 2155, 0);
CREATE TABLE child(id int PRIMARY KEY, pid int, FOREIGN KEY (pid) REFERENCES parent(id) ON DELETE CASCADE,
  FOREIGN KEY (id) REFERENCES other.o(id));
INSERT INTO child VALUES (1, 100), (2, NULL);
CREATE TABLE computed(a int, b int AS (a * 2) VIRTUAL, c int AS (a * 3) STORED, CHECK (a < 100), KEY (b));
INSERT INTO computed(a) VALUES (1), (2), (2);
CREATE TABLE found(a int, t text, FULLTEXT (t)) ENGINE = MyISAM;
INSERT INTO found VALUES (1, 'x');
CREATE TABLE safe(a int) ENGINE = Aria;
INSERT INTO safe VALUES (1);
CREATE SEQUENCE numbers START WITH 5 INCREMENT BY 3;
DO NEXTVAL(numbers);
CREATE TABLE numbered(id int DEFAULT NEXTVAL(numbers) PRIMARY KEY, v int);
INSERT INTO numbered(v) VALUES (1);
CREATE TABLE versioned(a int) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (1);
UPDATE versioned SET a = 2;
CREATE TABLE parted(a int, b int) PARTITION BY HASH (a) PARTITIONS 3;
INSERT INTO parted VALUES (1, 1), (2, 2);
CREATE TABLE counted(id int AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 77;
CREATE TABLE hidden(a int, b int INVISIBLE DEFAULT 5);
INSERT INTO hidden(a, b) VALUES (1, 9);
CREATE TABLE `odd ``name``, with - all`(`a b` int, `c``d` int);
INSERT INTO `odd ``name``, with - all` VALUES (1, NULL);

CREATE VIEW `--odd view` AS SELECT 1 AS `a ``b`;
CREATE VIEW second AS SELECT 1 AS x;
CREATE VIEW first AS SELECT x FROM second;
CREATE OR REPLACE VIEW second AS SELECT id AS x FROM parent;
CREATE VIEW abroad AS SELECT p.id, o.k FROM parent p JOIN other.o o ON o.id = p.id;
CREATE DEFINER = 'ghost'@'%' SQL SECURITY DEFINER VIEW haunted AS SELECT id FROM parent;

DELIMITER //
CREATE FUNCTION plus(a int) RETURNS int DETERMINISTIC
BEGIN
  -- a comment that stays
  /* and another */ RETURN a + 1;
END//
CREATE PROCEDURE listed() BEGIN SELECT * FROM shop.parent; END//
CREATE DEFINER = 'ghost'@'%' PROCEDURE strict() SQL SECURITY INVOKER COMMENT 'it''s' BEGIN SELECT "x" || 'y'; END//
CREATE TRIGGER late BEFORE INSERT ON parent FOR EACH ROW SET NEW.name = CONCAT(NEW.name, '!')//
CREATE TRIGGER early BEFORE INSERT ON shop.parent FOR EACH ROW PRECEDES late SET NEW.name = 'z'//
CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2020-01-01 00:00:00' DO DELETE FROM shop.safe//
CREATE EVENT once ON SCHEDULE AT '2037-01-01 00:00:00' DO DELETE FROM shop.safe//
CREATE EVENT asleep ON SCHEDULE EVERY 1 HOUR STARTS '2020-01-01 00:00:00' DISABLE COMMENT 'zzz' DO SET @a = 1//
SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'//
CREATE FUNCTION joined(a text) RETURNS text RETURN a || "a"//
SET SESSION sql_mode = DEFAULT//
DELIMITER ;
CREATE VIEW called AS SELECT plus(id) AS n FROM parent;
ALTER DATABASE shop COLLATE latin1_swedish_ci;
CREATE TABLE late_charset(a varchar(10));

CREATE USER app@'%' IDENTIFIED BY 'x';
CREATE ROLE clerk;
GRANT SELECT, INSERT ON shop.* TO app@'%';
GRANT SELECT ON shop.* TO clerk;
GRANT SELECT (id), UPDATE (name) ON shop.parent TO app@'%';
GRANT DELETE ON shop.child TO app@'%' WITH GRANT OPTION;
GRANT EXECUTE ON PROCEDURE shop.listed TO app@'%';
GRANT EXECUTE ON FUNCTION shop.plus TO app@'%' WITH GRANT OPTION;
