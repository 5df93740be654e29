/**
 * The few ways in which this room talks to SQLite. Statements are prepared once per store.
 */
import type { SQLInputValue } from 'node:sqlite';
import { z } from 'zod';
import type { Store } from './store.ts';

type Row = Readonly<Record<string, unknown>>;

function prepare(store: Store, sql: string) {
  const known = store.statements.get(sql);
  if (known) return known;
  const statement = store.db.prepare(sql);
  store.statements.set(sql, statement);
  return statement;
}

/** Changes rows; answers how many. */
export function run(store: Store, sql: string, ...values: SQLInputValue[]): number {
  return Number(prepare(store, sql).run(...values).changes);
}

export function findRow<S extends z.ZodType>(
  store: Store,
  schema: S,
  sql: string,
  ...values: SQLInputValue[]
): z.output<S> | null {
  const row = prepare(store, sql).get(...values);
  return row === undefined ? null : parseRow(schema, row);
}

export function allRows<S extends z.ZodType>(
  store: Store,
  schema: S,
  sql: string,
  ...values: SQLInputValue[]
): z.output<S>[] {
  return prepare(store, sql)
    .all(...values)
    .map((row) => parseRow(schema, row));
}

/**
 * Another text after every change of the database, by this connection or by any other; rows that were read under the
 * same text are the same still. It may change without a change, as after a rollback.
 * https://sqlite.org/pragma.html#pragma_data_version tells of others' commits only, total_changes() of our own.
 */
export function readVersion(store: Store): string {
  const theirs = prepare(store, 'PRAGMA data_version').get();
  const ours = prepare(store, 'SELECT total_changes() AS changes').get();
  return `${theirs?.['data_version']}.${ours?.['changes']}`;
}

/**
 * Columns are snake_case, fields camelCase. A row that does not fit is a fault of ours: it throws. The same row read
 * again is the value of before: never change it.
 */
function parseRow<S extends z.ZodType>(schema: S, row: Row): z.output<S> {
  const values = Object.values(row);
  const rows = remember(schema);
  // Enough to tell rows of one table apart; where it is not, rows are parsed anew.
  const key = `${values[0]}/${values[1]}`;
  const before = rows.get(key);
  if (before && areSame(before.values, values)) return before.parsed as z.output<S>;
  const fields: Record<string, unknown> = {};
  for (const [column, value] of Object.entries(row)) fields[toField(column)] = value;
  const parsed = schema.parse(fields);
  if (rows.size >= ROWS_REMEMBERED_MAX) rows.clear();
  rows.set(key, { values, parsed });
  return parsed;
}

/** Rows are read far more often than they change: so many of each shape are remembered as they were parsed. */
const ROWS_REMEMBERED_MAX = 5_000;
const rememberedRows = new WeakMap<z.ZodType, Map<string, { values: readonly unknown[]; parsed: unknown }>>();

function remember(schema: z.ZodType) {
  const known = rememberedRows.get(schema);
  if (known) return known;
  const rows = new Map<string, { values: readonly unknown[]; parsed: unknown }>();
  rememberedRows.set(schema, rows);
  return rows;
}

const areSame = (left: readonly unknown[], right: readonly unknown[]): boolean =>
  left.length === right.length && left.every((value, index) => value === right[index]);

const fieldNames = new Map<string, string>();

/** There are as many as columns; every row of every look asks for them. */
function toField(column: string): string {
  const known = fieldNames.get(column);
  if (known !== undefined) return known;
  const field = column.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  fieldNames.set(column, field);
  return field;
}

/** Rows are read far more often than they change: so many texts of a column are remembered with their values. */
const JSON_REMEMBERED_MAX = 2_000;

/** A TEXT column that holds JSON of this shape. Values are shared between rows with the same text: never change them. */
export function json<S extends z.ZodType>(schema: S) {
  const known = new Map<string, z.output<S>>();
  return z.string().transform((text, context): z.output<S> => {
    const remembered = known.get(text);
    if (remembered !== undefined) return remembered;
    const parsed = schema.safeParse(parseJson(text));
    if (!parsed.success) {
      context.addIssue({ code: 'custom', message: `is not JSON of the right shape: ${parsed.error.message}` });
      return z.NEVER;
    }
    if (known.size >= JSON_REMEMBERED_MAX) known.clear();
    known.set(text, parsed.data);
    return parsed.data;
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `?, ?, ?` for an IN list. */
export function placeholders(count: number): string {
  return Array.from({ length: count }, () => '?').join(', ');
}
