/**
 * The embedded store: one SQLite file. Functions beside this file are asynchronous, so that another database can take
 * its place; what they do inside `transaction` is synchronous, so that nothing else runs in between.
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { z } from 'zod';
import { type Clock, delay } from '../clock.ts';
import type { PortRange } from '../cluster/types.ts';
import { Refusal } from '../errors.ts';
import { migrate } from './migrate.ts';
import type { Leader } from './rows.ts';
import { readKeyFile, seal, unseal } from './secrets.ts';
import { ensureServicePorts, servicePortsDefault } from './service-ports.ts';
import { findRow, run } from './sql.ts';

/** How long a statement waits for another process that writes. */
const BUSY_TIMEOUT_MS = 10_000;
/** SQLite does not wait for others where it switches to WAL, so this room does. */
const WAL_TRIES_MAX = 200;
const WAL_RETRY_MS = 50;
const SQLITE_BUSY = 5;
const KEY_CHECK = 'selvedge';

/** Made once: zod compiles a schema when it is first used, and every transaction looks at the leader. */
const tokenRow = z.object({ token: z.number() });
const settingRow = z.object({ value: z.string() });

export interface Store {
  readonly db: DatabaseSync;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly key: Buffer;
  /** Made once, when the store was made; the label of everything that is ours on Mesos. */
  readonly installationId: string;
  /** Where new clusters get their service ports from. */
  readonly servicePorts: PortRange;
  readonly statements: Map<string, StatementSync>;
  /** Idempotent. */
  close(): void;
}

export interface StoreOptions {
  /** File, or ':memory:'. */
  readonly path: string;
  /** Key of the secrets: given, or in a file that is made with mode 0600 on first use. */
  readonly key?: Buffer;
  readonly keyFile?: string;
  readonly clock: Clock;
  readonly newId: () => string;
  /** Default 13306 to 23305. */
  readonly servicePorts?: PortRange;
  /** The directory of the numbered migrations. */
  readonly sqlDir: string;
}

/** Opens or makes the store, brings its schema up to date and checks that the key fits. Throws when it does not. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const db = new DatabaseSync(options.path, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
  try {
    await useWal(db, options.clock);
    // FULL: an ACCEPT is sent on the strength of a row, so the row must survive a loss of power.
    db.exec('PRAGMA synchronous = FULL');
    migrate(db, { sqlDir: options.sqlDir, now: options.clock.now() });
    const statements = new Map<string, StatementSync>();
    const { clock, newId } = options;
    const close = () => {
      if (db.isOpen) db.close();
    };
    const servicePorts = options.servicePorts ?? servicePortsDefault;
    const draft = { db, clock, newId, statements, close, servicePorts, key: Buffer.alloc(0), installationId: '' };
    const key = readKey(draft, options);
    const installationId = await transaction(draft, () => {
      checkKey(draft, key);
      ensureServicePorts(draft);
      return ensureSetting(draft, 'installation_id', newId());
    });
    return { ...draft, key, installationId };
  } catch (cause) {
    db.close();
    throw new Error(`open the store ${options.path}`, { cause });
  }
}

async function useWal(db: DatabaseSync, clock: Clock): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      db.exec('PRAGMA journal_mode = WAL');
      return;
    } catch (error) {
      if (!isBusy(error) || tries === WAL_TRIES_MAX) throw error;
      await delay(clock, WAL_RETRY_MS);
    }
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && Number(error.errcode) % 256 === SQLITE_BUSY;
}

function readKey(store: Store, options: StoreOptions): Buffer {
  if (options.key) return options.key;
  if (!options.keyFile) throw new Error('a key or a key file is needed');
  return readKeyFile(options.keyFile, { mayCreate: findSetting(store, 'key_check') === null, newId: options.newId });
}

/** Another key would be noticed only when the first secret is needed: notice it at the start. */
function checkKey(store: Store, key: Buffer): void {
  const sealed = ensureSetting(store, 'key_check', seal(key, 'setting:key_check', KEY_CHECK));
  try {
    unseal(key, 'setting:key_check', sealed);
  } catch (cause) {
    throw new Error('this is not the key by which the store was made', { cause });
  }
}

/**
 * Runs `change` alone and whole: all of its writes are durable when this resolves, or none. `change` is synchronous on
 * purpose: an await inside would let other work see or join a half-done change.
 */
export async function transaction<T>(store: Store, change: () => T): Promise<T> {
  store.db.exec('BEGIN IMMEDIATE');
  let result: T;
  try {
    result = change();
  } catch (error) {
    store.db.exec('ROLLBACK');
    throw error;
  }
  try {
    store.db.exec('COMMIT');
  } catch (error) {
    if (store.db.isTransaction) store.db.exec('ROLLBACK');
    throw error;
  }
  return result;
}

/** A transaction that is refused with STALE_LEADER when a newer leader exists (docs/failover-safety.md, guarantee 2). */
export function transactionAs<T>(store: Store, leader: Leader, change: () => T): Promise<T> {
  return transaction(store, () => {
    checkLeader(store, leader);
    return change();
  });
}

/** For use inside a transaction. */
export function checkLeader(store: Store, leader: Leader): void {
  const row = findRow(store, tokenRow, "SELECT token FROM leadership WHERE id = 'only'");
  if (row?.token !== leader.token)
    throw new Refusal('STALE_LEADER', `leader ${leader.token} is not the newest, ${row?.token} is`, {
      token: leader.token,
      newest: row?.token ?? null,
    });
}

export function findSetting(store: Store, name: string): string | null {
  return findRow(store, settingRow, 'SELECT value FROM setting WHERE name = ?', name)?.value ?? null;
}

/** For use inside a transaction. */
export function writeSetting(store: Store, name: string, value: string): void {
  if (run(store, 'UPDATE setting SET value = ? WHERE name = ?', value, name) === 0)
    run(store, 'INSERT INTO setting (name, value) VALUES (?, ?)', name, value);
}

function ensureSetting(store: Store, name: string, value: string): string {
  const known = findSetting(store, name);
  if (known !== null) return known;
  writeSetting(store, name, value);
  return value;
}
