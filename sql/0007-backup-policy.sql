-- What a person said of backups, as JSON; NULL: the default. Runs of a schedule count from when it was said.
ALTER TABLE cluster ADD COLUMN backup_policy TEXT NULL;
ALTER TABLE cluster ADD COLUMN backup_policy_at BIGINT NULL;

-- The run of the schedule that it belongs to; NULL: asked for by hand.
ALTER TABLE backup ADD COLUMN due_at BIGINT NULL;
-- When it was last started and read whole.
ALTER TABLE backup ADD COLUMN verified_at BIGINT NULL;
-- It must not be used, and why.
ALTER TABLE backup ADD COLUMN bad_reason TEXT NULL;
-- Of the states removing (intended) and removed (a tombstone).
ALTER TABLE backup ADD COLUMN removal_reason TEXT NULL;

CREATE TABLE verification (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  cluster_id VARCHAR(36) NOT NULL,
  ordinal INTEGER NOT NULL,
  backup_id VARCHAR(64) NOT NULL,
  -- The cluster's id while open: at most one a cluster.
  open_key VARCHAR(64) NULL UNIQUE,
  state VARCHAR(16) NOT NULL,
  requested_by VARCHAR(255) NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NULL,
  code VARCHAR(64) NULL,
  message TEXT NULL,
  FOREIGN KEY (cluster_id, ordinal) REFERENCES member (cluster_id, ordinal)
);
CREATE INDEX verification_cluster ON verification (cluster_id, started_at);
