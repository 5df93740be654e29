-- Leading a cluster back, in place, to a state of its past. Until `fencing_at` nothing was touched; from then until its
-- new epoch is committed nothing else changes the cluster.
CREATE TABLE restore (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  cluster_id VARCHAR(36) NOT NULL,
  -- The cluster's id while open, NULL after: at most one is open.
  open_key VARCHAR(64) NULL UNIQUE,
  state VARCHAR(16) NOT NULL,
  requested_by VARCHAR(255) NOT NULL,
  origin TEXT NOT NULL,
  -- The member that is filled, and who it is then.
  ordinal INTEGER NOT NULL,
  incarnation VARCHAR(36) NOT NULL UNIQUE,
  server_uuid VARCHAR(36) NOT NULL UNIQUE,
  server_id BIGINT NOT NULL UNIQUE,
  safety_backup_id VARCHAR(36) NOT NULL,
  -- A person goes on without the safety backup when it cannot be made.
  is_forced INTEGER NOT NULL,
  from_epoch BIGINT NULL,
  fencing_at BIGINT NULL,
  facts TEXT NOT NULL,
  steps TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NULL,
  code VARCHAR(64) NULL,
  message TEXT NULL,
  FOREIGN KEY (cluster_id, ordinal) REFERENCES member (cluster_id, ordinal)
);
CREATE INDEX restore_cluster ON restore (cluster_id, started_at);
