/** Whether what a replica received survives a crash of its host. */
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Session } from './connection.ts';

const relayLog = /^relay(-bin)?\.(\d{6,10}|index)$/;

/**
 * Flushes all relay logs of a data directory, mysqld running or not: what it wrote is in the cache of the operating
 * system at least. One that is purged meanwhile was applied, and what is applied is on disk.
 */
export async function flushRelayLogs(dataDir: string): Promise<void> {
  const names = (await readdir(dataDir)).filter((name) => relayLog.test(name));
  for (const path of [...names.map((name) => join(dataDir, name)), dataDir]) {
    try {
      await using file = await open(path, 'r');
      await file.sync();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

/** In force at once, for a receiver that runs, too. */
export async function setRelayLogFlush(session: Session, ackFlush: 'os' | 'disk'): Promise<void> {
  await session.query(`SET GLOBAL sync_relay_log = ${ackFlush === 'disk' ? 1 : 10_000}`);
}

/** Each transaction is flushed before it is acknowledged. */
export async function readRelayLogFlush(session: Session): Promise<boolean> {
  const [row] = await session.query<{ period: number }>('SELECT @@GLOBAL.sync_relay_log AS period');
  return Number(row?.period) === 1;
}
