/** Transactions in the binary logs of a data directory that another member lacks, in whatever log. mysqld is down. */
import { basename } from 'node:path';
import {
  compactGtidSet,
  type GtidSet,
  isGtidSubset,
  ownGtidTag,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
  withoutGtidTag,
} from '../cluster/gtid-set.ts';
import { Refusal } from '../errors.ts';
import { listBinaryLogs } from './binlog.ts';
import { type BinlogTransaction, readBinlogHead, walkBinaryLog } from './binlog-events.ts';

/** More is no leftover but another history. */
const MAX_TRANSACTIONS = 1_000_000;

/** Parts of one log. */
export interface LogPart {
  readonly path: string;
  /** What every copy of a part needs first: magic, format description, previous GTIDs. */
  readonly headBytes: number;
  /** In the order of the file, `end` is behind the last byte. */
  readonly ranges: readonly { readonly start: number; readonly end: number }[];
}

export interface Lacking {
  /** Empty when nothing is lacking. */
  readonly parts: readonly LogPart[];
  readonly gtidSet: string;
  readonly transactions: number;
}

/**
 * Our own commits (heartbeats, epochs) are nobody's loss and not counted.
 * Logs that hold nothing of it are told by the heads of their successors and not read. Refuses with BINLOG_UNREADABLE
 * when a log cannot be read, TAIL_TOO_DEEP past a million transactions; rejects with ENOENT without an index.
 */
export async function findLacking(dataDir: string, keepText: string, signal: AbortSignal): Promise<Lacking> {
  const keep = parseGtidSet(keepText);
  const paths = await listBinaryLogs(dataDir);
  const heads = await Promise.all(paths.map((path) => readBinlogHead(path)));
  const parts: LogPart[] = [];
  const found: GtidSet[] = [];
  let transactions = 0;
  for (const [index, path] of paths.entries()) {
    const head = heads[index];
    const next = heads[index + 1];
    if (!head) {
      // A log that was just begun when mysqld ended.
      if (index === paths.length - 1) break;
      throw new Refusal('BINLOG_UNREADABLE', `binary log ${basename(path)} ends before its previous GTIDs`);
    }
    if (next && holdsNothingElse(head.previousGtids, next.previousGtids, keep)) continue;
    const ranges: { start: number; end: number }[] = [];
    const onTransaction = ({ gtid, position, endPosition }: BinlogTransaction) => {
      const set = parseGtidSet(gtid);
      if (gtid.includes(`:${ownGtidTag}:`) || isGtidSubset(set, keep)) return;
      transactions += 1;
      if (transactions > MAX_TRANSACTIONS) {
        throw new Refusal('TAIL_TOO_DEEP', `the primary lacks more than ${MAX_TRANSACTIONS} transactions`);
      }
      found.push(set);
      const last = ranges.at(-1);
      if (last?.end === position) last.end = endPosition;
      else ranges.push({ start: position, end: endPosition });
    };
    await walkBinaryLog(path, { signal, onTransaction });
    if (ranges.length > 0) parts.push({ path, headBytes: head.headBytes, ranges });
  }
  return { parts, transactions, gtidSet: compactGtidSet(unionGtidSets(...found)) };
}

function holdsNothingElse(previous: string, next: string, keep: GtidSet): boolean {
  const content = subtractGtidSets(parseGtidSet(next), parseGtidSet(previous));
  return isGtidSubset(withoutGtidTag(content, ownGtidTag), keep);
}
