-- A person gives up what only the member has, when it cannot be saved before the member is filled anew.
ALTER TABLE rebuild ADD COLUMN is_forced INTEGER NOT NULL DEFAULT 0;

-- Since when a condition of a cluster holds, for people alone: a restart of the control plane does not set it back.
-- Nothing is decided by it.
CREATE TABLE cluster_condition (
  cluster_id VARCHAR(36) NOT NULL,
  type VARCHAR(64) NOT NULL,
  since BIGINT NOT NULL,
  PRIMARY KEY (cluster_id, type),
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);
