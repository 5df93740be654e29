-- Every cluster owns a port for life, on which a proxy gives its primary. NULL when nothing is left of the cluster, and
-- until the store is opened for clusters that were made before. The sequence goes round the range of the installation,
-- so that a port is given again only after all others: clients may still know the old one.
ALTER TABLE cluster ADD COLUMN service_port INTEGER NULL;
CREATE UNIQUE INDEX cluster_service_port ON cluster (service_port);
INSERT INTO sequence (name, next_value) VALUES ('service_port', 0);
