-- Deletion that keeps the volumes: `desired` is 'retained' from then on. Who asked for it and when, what the cluster had
-- acknowledged at its end, and how far its end has come (JSON). NULL: it was never asked for.
ALTER TABLE cluster ADD COLUMN retained TEXT NULL;
