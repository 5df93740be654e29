/**
 * Numbered migrations, `sql/0001-name.sql` and so on, applied in order. Each runs in one transaction that inserts the
 * migration's row first: of two processes that start at once the second waits, sees the row and goes on.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';

interface Migration {
  readonly number: number;
  readonly name: string;
}

const fileName = /^(\d{4})-[a-z0-9-]+\.sql$/;

export function migrate(db: DatabaseSync, options: { readonly sqlDir: string; readonly now: number }): void {
  db.exec(
    'CREATE TABLE IF NOT EXISTS migration (number INTEGER NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, applied_at BIGINT NOT NULL)',
  );
  const migrations = listMigrations(options.sqlDir);
  const newest = readNewest(db, migrations);
  for (const migration of migrations.slice(newest)) apply(db, migration, options);
}

function listMigrations(sqlDir: string): Migration[] {
  const migrations = readdirSync(sqlDir)
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => ({ name, number: Number(fileName.exec(name)?.[1]) }));
  migrations.forEach(({ name, number }, index) => {
    if (number !== index + 1) throw new Error(`migration ${name} should have the number ${index + 1}`);
  });
  return migrations;
}

/** How many were applied. An older program must not write into a schema that it does not know. */
function readNewest(db: DatabaseSync, migrations: readonly Migration[]): number {
  const newest = Number(db.prepare('SELECT COALESCE(MAX(number), 0) AS newest FROM migration').get()?.['newest']);
  if (newest > migrations.length)
    throw new Error(`the store has migration ${newest}, this program knows ${migrations.length}: use a newer program`);
  return newest;
}

function apply(db: DatabaseSync, { number, name }: Migration, options: { sqlDir: string; now: number }): void {
  db.exec('BEGIN IMMEDIATE');
  try {
    if (!db.prepare('SELECT number FROM migration WHERE number = ?').get(number)) {
      db.prepare('INSERT INTO migration (number, name, applied_at) VALUES (?, ?, ?)').run(number, name, options.now);
      db.exec(readFileSync(join(options.sqlDir, name), 'utf8'));
    }
    db.exec('COMMIT');
  } catch (cause) {
    db.exec('ROLLBACK');
    throw new Error(`apply migration ${name}`, { cause });
  }
}
