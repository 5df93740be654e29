/**
 * Before a restore fills anything: the primary takes no more writes and says what it holds, mysqld of every member that
 * is reached is ended and held, and what was acknowledged is in the archives. The old epoch acknowledges through its
 * primary alone: that it is ended needs a proof; who else is not reached is filled anew when it comes back.
 */
import { isGtidSubset, parseGtidSet, unionGtidSets } from '../cluster/gtid-set.ts';
import { Refusal } from '../errors.ts';
import { beginFencing, getRestore, recordRestore } from '../store/restores.ts';
import type { RestoreRow } from '../store/rows.ts';
import type { Context } from './context.ts';
import { type ClusterView, gather, isRunning, type MemberView, primaryOf, proofOfEnd } from './gather.ts';
import { lastKnownOf } from './primary-sets.ts';
import { lookUntil } from './wakes.ts';

const pauseMs = 10_000;
const answerMs = 7000;
const briefly = { maxPauseMs: 1000, killAfterMs: 500 };
const fenceTimeoutMs = 12_000;
const archiveTimeoutMs = 30_000;

export interface Fenced {
  /** All that the primary had. */
  readonly held: string;
  readonly detail: string;
}

/** May run twice. Throws what refuses it; then it is taken back. */
export async function fenceForRestore(
  context: Context,
  { id, clusterId }: RestoreRow,
  signal: AbortSignal,
): Promise<Fenced> {
  await lookUntil(context, clusterId, signal, async () =>
    (await beginFencing(context.store, context.leader, id)) ? true : undefined,
  );
  const held = await pause(context, { id, clusterId, signal });
  const view = await gather(context, clusterId);
  const others = await fenceAll(context, view, signal);
  const archived = await waitArchived(context, { id, clusterId, held, signal });
  return { held, detail: `members ${others.join(', ')} are held; ${archived}` };
}

interface Here {
  readonly id: string;
  readonly clusterId: string;
  readonly signal: AbortSignal;
}

/** Cleanly where it can be: what clients were told is then all that there is, and taking it back costs nothing. */
async function pause(context: Context, { id, clusterId, signal }: Here): Promise<string> {
  const { facts } = await getRestore(context.store, id);
  if (facts.held !== undefined) return facts.held;
  const view = await gather(context, clusterId);
  const primary = primaryOf(view);
  const held =
    (primary && (await demotePrimary(context, view, primary, signal))) ??
    lastKnownOf(view.cluster, context.lastKnownPrimaryGtid);
  await recordRestore(context.store, context.leader, id, { facts: { held } });
  return held;
}

/** What the primary holds, when it takes no more writes. Null: it does not run or is not reached. Throws its refusal. */
export async function demotePrimary(
  context: Context,
  view: ClusterView,
  primary: MemberView,
  signal: AbortSignal,
): Promise<string | null> {
  if (!primary.launch || !primary.isConnected || !isRunning(primary)) return null;
  const { epoch } = view.cluster;
  const options = { epoch, timeoutMs: pauseMs + answerMs, signal };
  const isWritable = primary.status?.isWritable === true;
  const demotion = { kind: 'demote', maxPauseMs: pauseMs, killAfterMs: pauseMs / 2 } as const;
  // Read-only after a switchover that could not be taken back, it may have a lease: whatever it answers, that ends it.
  if (!isWritable)
    await context.executors.send(primary.launch.taskId, { ...demotion, ...briefly }, options).catch(() => {});
  const body = isWritable ? demotion : ({ kind: 'catchUp', gtidSet: '', timeoutMs: 0 } as const);
  const answer = await context.executors.send(primary.launch.taskId, body, options);
  return answer.outcome === 'done' && answer.gtidExecuted !== undefined ? answer.gtidExecuted : null;
}

async function fenceAll(context: Context, view: ClusterView, signal: AbortSignal): Promise<number[]> {
  const primary = primaryOf(view);
  const options = { epoch: view.cluster.epoch, timeoutMs: fenceTimeoutMs, signal };
  const reached = view.members.filter(
    ({ isConnected, launch, status }) => isConnected && launch && status?.isInitialised,
  );
  if (primary && !reached.includes(primary) && proofOfEnd(primary) === null) {
    const message = `member ${primary.ordinal}, the primary, is not reached, and nothing proves that it has ended`;
    throw new Refusal('MEMBER_NOT_READY', message);
  }
  await Promise.all(reached.map(({ launch }) => context.executors.send(launch!.taskId, { kind: 'fence' }, options)));
  return reached.map(({ ordinal }) => ordinal);
}

/** The history that is left must be whole somewhere: one archive at least has all of it, or a person wants to go on. */
async function waitArchived(
  context: Context,
  { id, clusterId, held, signal }: Here & { readonly held: string },
): Promise<string> {
  const { isForced } = await getRestore(context.store, id);
  const since = context.clock.now();
  const wanted = parseGtidSet(held);
  return lookUntil(context, clusterId, signal, async () => {
    const { members } = await gather(context, clusterId);
    const whole = members.find(({ status, isConnected }) => {
      const spans = (isConnected && status?.archive?.spans) || [];
      const backups = status?.backups ?? [];
      // What came before its oldest backup nobody can go back to anyway.
      const held = [...spans, ...backups].map(({ gtidSet }) => gtidSet).concat(spans.map(({ fromGtids }) => fromGtids));
      return spans.length > 0 && isGtidSubset(wanted, unionGtidSets(...held.map(parseGtidSet)));
    });
    if (whole) return `all of it is in the archive of member ${whole.ordinal}`;
    if (context.clock.now() - since < archiveTimeoutMs) return undefined;
    if (isForced) return 'not all of it is in an archive';
    const message = 'no archive has everything that was acknowledged: what is left would not be whole anywhere';
    throw new Refusal('ARCHIVE_FAILED', message, { held });
  });
}
