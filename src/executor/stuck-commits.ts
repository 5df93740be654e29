/**
 * A replica acknowledges only what it gets while it is a voter. What it got before, as a receiver that did not
 * acknowledge yet, is not sent again, and its acknowledgement never comes. Any later transaction carries it, but when
 * all writers wait behind the stuck one (the same rows, one heartbeat at a time) there is no later one, and the cluster
 * is blocked for good: https://github.com/vitessio/vitess/issues/17763. So, while a commit of ours waits although enough
 * replicas acknowledge, another row is committed on a session of its own.
 */
import { delay } from '../clock.ts';
import type { Session } from '../mysql/connection.ts';
import { commitHeartbeat, type Heartbeat } from '../mysql/heartbeat.ts';
import { readSemiSync } from '../mysql/semi-sync.ts';
import { openSession, type RunningInstance } from './instance.ts';
import type { MemberContext } from './member-context.ts';

const LOOK_MS = 1_000;
/** Those that wait themselves keep their row locked: each has one of its own, after the heartbeat's. */
const ROWS_MAX = 20;
const COMMIT_TIMEOUT_MS = 3_600_000;

/** Looks once a second until `pending` settles, or the instance is another one. Never throws. */
export function freeStuckCommits(
  context: MemberContext,
  instance: RunningInstance,
  { beat, pending }: { readonly beat: Omit<Heartbeat, 'atMs'>; readonly pending: Promise<unknown> },
): void {
  const settled = new AbortController();
  const end = () => settled.abort();
  pending.then(end, end);
  void (async () => {
    let waiting = 0;
    while (waiting < ROWS_MAX) {
      await delay(context.clock, LOOK_MS, settled.signal);
      if (context.instance !== instance) return;
      const row = 2 + waiting;
      const outcome = await commitAnother(context, instance, { ...beat, atMs: context.clock.now() }, row);
      if (outcome === 'waits') waiting += 1;
    }
    context.log.warn({ waiting }, 'commits stay without their acknowledgement');
  })().catch((error: unknown) => {
    if (!settled.signal.aborted) context.log.warn({ err: error }, 'cannot look after commits that wait');
  });
}

/** 'waits': it was sent, and was not acknowledged within a second either. It goes on waiting. */
async function commitAnother(
  context: MemberContext,
  instance: RunningInstance,
  beat: Heartbeat,
  row: number,
): Promise<'done' | 'waits' | 'not needed'> {
  const session = await openSession({ socketPath: context.paths.socket, clock: context.clock });
  const { k, waitingSessions, acknowledgers } = await readSemiSync(session);
  if (context.instance !== instance || waitingSessions === 0 || (acknowledgers?.length ?? 0) < k) {
    await session.close();
    return 'not needed';
  }
  context.log.info({ waitingSessions, acknowledgers }, 'commits wait although enough replicas acknowledge');
  const committed = commitOn(session, beat, row);
  const waited = new AbortController();
  const late = delay(context.clock, LOOK_MS, waited.signal).then(
    () => 'waits' as const,
    () => 'done' as const,
  );
  const outcome = await Promise.race([committed, late]);
  waited.abort();
  return outcome;
}

/** Closes the session at the end, however that comes. */
async function commitOn(session: Session, beat: Heartbeat, row: number): Promise<'done'> {
  try {
    await commitHeartbeat(session, beat, COMMIT_TIMEOUT_MS, row);
  } catch {
    // mysqld ended, or is read-only again
  } finally {
    await session.close();
  }
  return 'done';
}
