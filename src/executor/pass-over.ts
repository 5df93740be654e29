/**
 * Heartbeats of a dead primary that its successor never got. Nobody misses them, but a member that has them holds more
 * than the new primary: it could not follow, and could not be filled either, since CLONE waits for the first commit of
 * its donor, which waits for somebody who follows. So the new primary logs them as empty transactions, under their own
 * GTIDs, before anybody has to acknowledge anything.
 */
import { countGtids, eachGtid, parseGtidSet } from '../cluster/gtid-set.ts';
import { readGtids, subtractGtids } from '../mysql/gtid.ts';
import { hasEpoch, logEmpty } from '../mysql/heartbeat.ts';
import { openForOwnWrites } from '../mysql/read-only.ts';
import { openSession, type RunningInstance } from './instance.ts';
import type { MemberContext } from './member-context.ts';

/** Each is a commit of its own: some seconds on a slow disk. More than these, an hour away, are left to a person. */
const HEARTBEATS_MAX = 2_000;

/**
 * Only of a read-only instance with semi-sync off, and `wasWritable` stored. Twice is nothing. Where the row of the
 * epoch before is missing here it is among what is lacking, and must not be passed over: nothing is done then.
 */
export async function passOverHeartbeats(
  context: MemberContext,
  { admin }: RunningInstance,
  { heartbeats, epoch }: { readonly heartbeats: string; readonly epoch: number },
): Promise<void> {
  const { executed } = await readGtids(admin);
  const lacking = parseGtidSet(await subtractGtids(admin, heartbeats, executed));
  const count = countGtids(lacking);
  if (count === 0n) return;
  if (count > HEARTBEATS_MAX || !(await hasEpoch(admin, epoch - 1))) {
    context.log.warn({ count: Number(count) }, 'heartbeats of the old primary are not passed over');
    return;
  }
  await openForOwnWrites(admin);
  const session = await openSession({ socketPath: context.paths.socket, clock: context.clock });
  try {
    for (const gtid of eachGtid(lacking)) await logEmpty(session, gtid);
  } finally {
    await session.close();
  }
  context.log.info({ count: Number(count) }, 'heartbeats of the old primary are passed over');
}
