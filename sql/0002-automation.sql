-- What the control plane may do by itself, and how often. Automation is 'on' or 'off'; with automation_until it is on
-- again from then. No automatic failover begins before cooldown_until.
ALTER TABLE cluster ADD COLUMN automation VARCHAR(16) NOT NULL DEFAULT 'on';
ALTER TABLE cluster ADD COLUMN automation_until BIGINT NULL;
ALTER TABLE cluster ADD COLUMN cooldown_until BIGINT NULL;

-- What a person asked for beyond the kind: force, an accepted loss, the longest pause.
ALTER TABLE failover ADD COLUMN options TEXT NULL;
