/**
 * Before a member is filled anew: what it has and the primary lacks is kept as a tail. Found are transactions of its
 * binary logs; what it only received stands in its relay logs, which are then kept whole.
 */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isGtidSetEmpty, ownGtidTag, parseGtidSet, subtractGtidSets, withoutGtidTag } from '../cluster/gtid-set.ts';
import { findLacking } from '../mysql/lacking.ts';
import type { MemberContext } from './member-context.ts';
import { pruneTails } from './tail-retention.ts';
import { refreshTails, saveAnywhere } from './tails.ts';

export interface SaveFirst {
  /** GTID set that need not be kept: all that the primary has. */
  readonly keep: string;
  /** What the receiver had, read before mysqld ended; '' when it is not known. */
  readonly received: string;
  readonly signal: AbortSignal;
}

/** mysqld is down. Answers the id of the tail, null when there is nothing to keep. Throws when it cannot be kept. */
export async function saveLeftover(context: MemberContext, options: SaveFirst): Promise<string | null> {
  const { keep, received, signal } = options;
  const { dataDir } = context.paths;
  const { parts, gtidSet, transactions } = await findLacking(dataDir, keep, signal);
  const others = withoutGtidTag(parseGtidSet(received), ownGtidTag);
  const onlyReceived = subtractGtidSets(subtractGtidSets(others, parseGtidSet(keep)), parseGtidSet(gtidSet));
  const wholeFiles = isGtidSetEmpty(onlyReceived) ? [] : await listRelayLogs(dataDir);
  if (parts.length === 0 && wholeFiles.length === 0) return null;
  const first = parts[0];
  const bytes = parts.flatMap(({ ranges }) => ranges).reduce((sum, { start, end }) => sum + end - start, 0);
  const about = {
    ...{ gtidSet, transactions, bytes, reason: 'rebuilt' as const },
    binaryLog: basename(first?.path ?? wholeFiles[0]!),
    position: first?.ranges[0]?.start ?? 0,
  };
  // A tail that was cut off before may have the incarnation's own id.
  const id = `${context.marker!.incarnation}.rest`;
  await saveAnywhere(context, { id, parts, wholeFiles, about }, signal);
  await refreshTails(context);
  await pruneTails(context, true);
  context.log.warn({ id, gtidSet, bytes }, 'what only this member has was saved as a tail');
  context.changed();
  return id;
}

async function listRelayLogs(dataDir: string): Promise<string[]> {
  const names = await readdir(dataDir);
  return names
    .filter((name) => /^relay(-[a-z0-9_-]+)?\.\d{6,10}$/i.test(name))
    .sort()
    .map((name) => join(dataDir, name));
}
