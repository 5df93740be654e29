/** Reading every row of an instance: a checksum a table, as MySQL itself computes it. */
import type { Session } from './connection.ts';

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** Schemas that hold nothing of their own. */
const virtual = ['information_schema', 'performance_schema'];
const virtualList = virtual.map((name) => `'${name}'`).join(', ');

/** All InnoDB tables of all schemas, the largest first, so that readers beside each other end together. */
export function listTables(session: Session): Promise<TableName[]> {
  return session.query<{ schema: string; name: string }>(
    `SELECT TABLE_SCHEMA AS \`schema\`, TABLE_NAME AS name FROM information_schema.TABLES
     WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE = 'InnoDB' AND TABLE_SCHEMA NOT IN (${virtualList})
     ORDER BY DATA_LENGTH DESC, TABLE_SCHEMA, TABLE_NAME`,
    [],
    { timeoutMs: null },
  );
}

export interface Checksums {
  /** Null: the table could not be read (CHECKSUM TABLE tells that by a warning, not by an error). */
  readonly checksum: number | null;
  readonly problem: string;
  readonly rows: number;
}

/** Reads every row, large values included. Takes as long as it takes. */
export async function checksumTable(session: Session, { schema, name }: TableName): Promise<Checksums> {
  const before = await readRowsRead(session);
  const [row] = await session.query<{ Checksum: number | null }>(
    `CHECKSUM TABLE ${quote(schema)}.${quote(name)} EXTENDED`,
    [],
    { timeoutMs: null },
  );
  const checksum = row?.Checksum ?? null;
  if (checksum !== null) {
    // The scan asks once more than there are rows, and is told the end.
    return { checksum: Number(checksum), problem: '', rows: (await readRowsRead(session)) - before - 1 };
  }
  const warnings = await session.query<{ Message: string }>('SHOW WARNINGS');
  return { checksum: null, problem: warnings.map(({ Message }) => Message).join('; '), rows: 0 };
}

async function readRowsRead(session: Session): Promise<number> {
  const [row] = await session.query<{ Value: string }>("SHOW SESSION STATUS LIKE 'Handler_read_rnd_next'");
  return Number(row?.Value ?? 0);
}

const quote = (name: string) => `\`${name.replaceAll('`', '``')}\``;

/** So many are named in a refusal. */
const EMPTIED_MAX = 20;

/**
 * Tables in engines whose content CLONE leaves out (it copies InnoDB alone): `schema.table (engine)`, at most 20.
 * Those of MySQL's own log tables are empty by nature.
 */
export async function findEmptiedTables(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    `SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, ' (', ENGINE, ')') AS name FROM information_schema.TABLES
     WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE IS NOT NULL AND ENGINE NOT IN ('InnoDB', 'PERFORMANCE_SCHEMA')
       AND TABLE_SCHEMA NOT IN (${virtualList}, 'mysql', 'sys')
     ORDER BY TABLE_SCHEMA, TABLE_NAME LIMIT ${EMPTIED_MAX}`,
  );
  return rows.map(({ name }) => name);
}
