/** All that a server ever logged, read from the files while its mysqld is down. */
import { formatGtidSet, parseGtidSet, unionGtidSets } from '../cluster/gtid-set.ts';
import { listBinaryLogs } from './binlog.ts';
import { walkBinaryLog } from './binlog-events.ts';

/**
 * What the last binary log says came before it, and its whole transactions: the unacknowledged tail too. A torn end was
 * never flushed, so nobody else has it. Checksums are compared; throws BINLOG_UNREADABLE rather than answer too little.
 */
export async function readLoggedGtids(dataDir: string, signal: AbortSignal): Promise<string> {
  const last = (await listBinaryLogs(dataDir)).at(-1)!;
  const { head, gtidSet } = await walkBinaryLog(last, { signal });
  return formatGtidSet(unionGtidSets(parseGtidSet(head.previousGtids), parseGtidSet(gtidSet)));
}
