-- Schema `selvedge` of every member. Run on each member with sql_log_bin = 0 and never replicated, so that it makes no
-- GTIDs; the rows in it are replicated. Statements end with a semicolon at the end of a line and may run again.

CREATE DATABASE IF NOT EXISTS selvedge CHARACTER SET utf8mb4;

-- Row 1 is committed by the primary every second: it proves that commits complete, and replicas measure their lag by it.
-- The others only free commits whose acknowledgement would never come (src/executor/stuck-commits.ts).
CREATE TABLE IF NOT EXISTS selvedge.heartbeat (
  id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  epoch BIGINT UNSIGNED NOT NULL,
  member INT UNSIGNED NOT NULL,
  at_ms BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB;

-- All rows are there from the start, so that none is ever inserted by replication: a new primary may have passed over
-- the heartbeat that another member took (src/executor/pass-over.ts), and the next must fit on both.
INSERT IGNORE INTO selvedge.heartbeat (id, epoch, member, at_ms)
WITH RECURSIVE row_of (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM row_of WHERE id < 21)
SELECT id, 0, 0, 0 FROM row_of;

-- First transaction of each primary: binary logs alone tell who was the primary, and when.
CREATE TABLE IF NOT EXISTS selvedge.epoch (
  epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  member INT UNSIGNED NOT NULL,
  server_uuid CHAR(36) CHARACTER SET ascii NOT NULL,
  at_ms BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB;
