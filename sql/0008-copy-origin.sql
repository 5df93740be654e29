-- From what a cluster was copied: the backup that was chosen, up to where, and what its source had acknowledged (JSON).
-- NULL: the cluster began empty.
ALTER TABLE cluster ADD COLUMN origin TEXT NULL;
