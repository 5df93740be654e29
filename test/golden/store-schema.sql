CREATE TABLE backup (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  cluster_id VARCHAR(36) NOT NULL,
  ordinal INTEGER NOT NULL,
  -- `<cluster id>.<ordinal>` while open: at most one a member.
  open_key VARCHAR(64) NULL UNIQUE,
  state VARCHAR(16) NOT NULL,
  requested_by VARCHAR(255) NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NULL,
  gtid_set TEXT NULL,
  bytes BIGINT NULL,
  code VARCHAR(64) NULL,
  message TEXT NULL, due_at BIGINT NULL, verified_at BIGINT NULL, bad_reason TEXT NULL, removal_reason TEXT NULL,
  FOREIGN KEY (cluster_id, ordinal) REFERENCES member (cluster_id, ordinal)
);

CREATE TABLE bundle (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  cluster_id VARCHAR(36) NOT NULL,
  ordinal INTEGER NOT NULL,
  state VARCHAR(16) NOT NULL,
  agent_id VARCHAR(255) NOT NULL,
  hostname VARCHAR(255) NOT NULL,
  ip VARCHAR(64) NOT NULL,
  bundle TEXT NOT NULL,
  resources TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_seen_at BIGINT NULL,
  release_reason TEXT NULL,
  released_at BIGINT NULL,
  FOREIGN KEY (cluster_id, ordinal) REFERENCES member (cluster_id, ordinal)
);

CREATE TABLE cluster (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  name VARCHAR(64) NOT NULL,
  -- The name while the cluster lives, NULL when nothing is left of it.
  open_name VARCHAR(64) NULL UNIQUE,
  spec TEXT NOT NULL,
  desired VARCHAR(16) NOT NULL,
  created_at BIGINT NOT NULL,
  deleted_at BIGINT NULL,
  epoch BIGINT NOT NULL,
  primary_ordinal INTEGER NULL,
  rule TEXT NULL,
  rule_version BIGINT NOT NULL,
  activated_at BIGINT NULL,
  -- AES-256-GCM, the id as additional data.
  sealed_secrets TEXT NOT NULL
, automation VARCHAR(16) NOT NULL DEFAULT 'on', automation_until BIGINT NULL, cooldown_until BIGINT NULL, service_port INTEGER NULL, preferences TEXT NULL, backup_policy TEXT NULL, backup_policy_at BIGINT NULL, origin TEXT NULL, retained TEXT NULL);

CREATE TABLE cluster_condition (
  cluster_id VARCHAR(36) NOT NULL,
  type VARCHAR(64) NOT NULL,
  since BIGINT NOT NULL,
  PRIMARY KEY (cluster_id, type),
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);

CREATE TABLE durability_finding (
  cluster_id VARCHAR(36) NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  message TEXT NOT NULL,
  found_at BIGINT NOT NULL,
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);

CREATE TABLE event (
  seq BIGINT NOT NULL PRIMARY KEY,
  at BIGINT NOT NULL,
  kind VARCHAR(64) NOT NULL,
  cluster_id VARCHAR(36) NULL,
  cluster VARCHAR(64) NULL,
  ordinal INTEGER NULL,
  message TEXT NOT NULL,
  data TEXT NOT NULL
);

CREATE TABLE failover (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  cluster_id VARCHAR(36) NOT NULL,
  -- The cluster's id while open, NULL after: at most one is open.
  open_key VARCHAR(64) NULL UNIQUE,
  kind VARCHAR(16) NOT NULL,
  reason TEXT NOT NULL,
  requested_by VARCHAR(255) NOT NULL,
  candidate INTEGER NULL,
  from_primary INTEGER NULL,
  to_primary INTEGER NULL,
  from_epoch BIGINT NOT NULL,
  outcome VARCHAR(16) NOT NULL,
  refusal TEXT NULL,
  facts TEXT NOT NULL,
  steps TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NULL, options TEXT NULL,
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);

CREATE TABLE launch (
  task_id VARCHAR(255) NOT NULL PRIMARY KEY,
  cluster_id VARCHAR(36) NOT NULL,
  ordinal INTEGER NOT NULL,
  bundle_id VARCHAR(36) NOT NULL,
  agent_id VARCHAR(255) NOT NULL,
  -- AES-256-GCM, the task id as additional data.
  sealed_token TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  task_state VARCHAR(64) NOT NULL,
  task_reason VARCHAR(255) NULL,
  task_message TEXT NULL,
  fingerprint VARCHAR(64) NULL,
  ended_at BIGINT NULL,
  FOREIGN KEY (cluster_id, ordinal) REFERENCES member (cluster_id, ordinal),
  FOREIGN KEY (bundle_id) REFERENCES bundle (id)
);

CREATE TABLE leadership (
  id VARCHAR(16) NOT NULL PRIMARY KEY,
  token BIGINT NOT NULL,
  holder VARCHAR(255) NOT NULL,
  taken_at BIGINT NOT NULL
);

CREATE TABLE member (
  cluster_id VARCHAR(36) NOT NULL,
  ordinal INTEGER NOT NULL,
  desired VARCHAR(16) NOT NULL,
  incarnation VARCHAR(36) NOT NULL UNIQUE,
  server_uuid VARCHAR(36) NOT NULL UNIQUE,
  server_id BIGINT NOT NULL UNIQUE,
  initialised_at BIGINT NULL,
  bundle_id VARCHAR(36) NULL,
  task_id VARCHAR(255) NULL,
  phase VARCHAR(64) NOT NULL,
  failures INTEGER NOT NULL,
  retry_at BIGINT NULL,
  PRIMARY KEY (cluster_id, ordinal),
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);

CREATE TABLE migration (number INTEGER NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, applied_at BIGINT NOT NULL);

CREATE TABLE primary_set (
  cluster_id VARCHAR(36) NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  gtid_set TEXT NOT NULL,
  seen_at BIGINT NOT NULL,
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);

CREATE TABLE rebuild (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  cluster_id VARCHAR(36) NOT NULL,
  ordinal INTEGER NOT NULL,
  open_key VARCHAR(64) NULL UNIQUE,
  state VARCHAR(16) NOT NULL,
  reason TEXT NOT NULL,
  requested_by VARCHAR(255) NOT NULL,
  incarnation VARCHAR(36) NOT NULL UNIQUE,
  server_uuid VARCHAR(36) NOT NULL UNIQUE,
  server_id BIGINT NOT NULL UNIQUE,
  way VARCHAR(255) NULL,
  attempts INTEGER NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NULL,
  code VARCHAR(64) NULL,
  message TEXT NULL, is_forced INTEGER NOT NULL DEFAULT 0,
  FOREIGN KEY (cluster_id, ordinal) REFERENCES member (cluster_id, ordinal)
);

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

CREATE TABLE sequence (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  next_value BIGINT NOT NULL
);

CREATE TABLE setting (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

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

CREATE INDEX backup_cluster ON backup (cluster_id, started_at);

CREATE INDEX bundle_member ON bundle (cluster_id, ordinal);

CREATE INDEX bundle_state ON bundle (state);

CREATE UNIQUE INDEX cluster_service_port ON cluster (service_port);

CREATE INDEX event_cluster ON event (cluster_id, seq);

CREATE INDEX failover_cluster ON failover (cluster_id, started_at);

CREATE INDEX launch_ended ON launch (ended_at);

CREATE INDEX launch_member ON launch (cluster_id, ordinal);

CREATE INDEX rebuild_cluster ON rebuild (cluster_id, started_at);

CREATE INDEX restore_cluster ON restore (cluster_id, started_at);

CREATE INDEX verification_cluster ON verification (cluster_id, started_at);
