-- Who shall rather, or never, become the primary: {"<ordinal>": "prefer" | "never"}; NULL and absent ones are neutral.
ALTER TABLE cluster ADD COLUMN preferences TEXT NULL;
