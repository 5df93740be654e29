-- What a restarted control plane must still know of an epoch.

-- The newest executed set that the primary of the epoch was seen to have: whoever follows it must cover it. Written a
-- few seconds late, for all clusters at once, and not for heartbeats alone.
CREATE TABLE primary_set (
  cluster_id VARCHAR(36) NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  gtid_set TEXT NOT NULL,
  seen_at BIGINT NOT NULL,
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);

-- What the durability audit found first in an epoch: a promise that was not kept.
CREATE TABLE durability_finding (
  cluster_id VARCHAR(36) NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  message TEXT NOT NULL,
  found_at BIGINT NOT NULL,
  FOREIGN KEY (cluster_id) REFERENCES cluster (id)
);
