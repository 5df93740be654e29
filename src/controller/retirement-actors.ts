/**
 * What the retirement machine's actors do. Every actor stores its fact before it returns and may run twice. From the
 * person's word on nothing else touches the cluster (isHeld): no failover, no join, no backup.
 */
import { fromPromise } from 'xstate';
import { findCoverage } from '../cluster/archive.ts';
import { compactGtidSet, type GtidSet, isGtidSubset, parseGtidSet, unionGtidSets } from '../cluster/gtid-set.ts';
import { type RetirementInput, type RetirementProgress, retirementMachine } from '../machines/retirement.ts';
import { recordRetained } from '../store/retained.ts';
import type { Retained } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, gather, isRunning, type MemberView, primaryOf } from './gather.ts';
import { isLending } from './lending.ts';
import { readPostMortem } from './post-mortem.ts';
import { lastKnownOf } from './primary-sets.ts';
import { demotePrimary } from './restore-fence.ts';
import { lookUntil } from './wakes.ts';

/** For so long the primary is asked what it holds; then what is known of it has to do. */
const primaryMs = 60_000;
const freezeTimeoutMs = 10_000;
const fenceTimeoutMs = 12_000;
const catchUpMs = 30_000;
/** A clean end of mysqld may take minutes; what has not ended by then is ended with its task. */
const stopTimeoutMs = 5 * 60_000 + 15_000;
const archiveMs = 30_000;

type Args = { readonly input: RetirementInput; readonly signal: AbortSignal };

export function provideRetirement(context: Context) {
  const effect = <T>(run: (context: Context, args: Args) => Promise<T>) =>
    fromPromise<T, RetirementInput>(({ input, signal }) => run(context, { input, signal }));
  return retirementMachine.provide({
    actors: {
      readProgress: effect(readProgress),
      quieten: effect(quieten),
      endInstances: effect(endInstances),
      settle: effect(settle),
    },
    actions: {
      logRetry: (_, { error }) =>
        context.log.warn({ err: error }, 'a step of the end of a cluster failed and is tried again'),
    },
  });
}

async function readProgress(context: Context, { input }: Args): Promise<RetirementProgress> {
  const { cluster } = await gather(context, input.clusterId);
  const { desired, retained } = cluster;
  return {
    isOver: desired !== 'retained' || retained?.downAt !== undefined,
    isQuiet: retained?.within !== undefined,
    isEnded: retained?.endedAt !== undefined,
  };
}

async function record(context: Context, clusterId: string, facts: Parameters<typeof recordRetained>[3]): Promise<void> {
  await recordRetained(context.store, context.leader, clusterId, facts);
  context.wakes.wake(clusterId);
}

/** The primary takes no more writes, and says what it holds: exactly that was acknowledged. */
async function quieten(context: Context, { input: { clusterId }, signal }: Args): Promise<void> {
  await lookUntil(context, clusterId, signal, async () => {
    const view = await gather(context, clusterId);
    const { retained, desired } = view.cluster;
    if (desired !== 'retained' || !retained || retained.within !== undefined) return true;
    const primary = primaryOf(view);
    const within = primary && (await demotePrimary(context, view, primary, signal).catch(() => null));
    signal.throwIfAborted();
    if (within != null) {
      await record(context, clusterId, { within, isExact: true });
      return true;
    }
    if (context.clock.now() - retained.since < primaryMs) return undefined;
    context.log.warn({ clusterId }, 'the primary does not say what it holds: what is known of it has to do');
    await record(context, clusterId, { within: await putTogether(context, view, signal), isExact: false });
    return true;
  });
}

/**
 * As a failover would: the primary is fenced if it is reached, receivers are stopped, so that an unreached one cannot have
 * more acknowledged, and what they received counts. Where nobody has to acknowledge all that the primary logged counts.
 */
async function putTogether(context: Context, view: ClusterView, signal: AbortSignal): Promise<string> {
  const { epoch, primary, rule } = view.cluster;
  await fencePrimary(context, view, signal);
  const replicas = view.members.filter(
    (member) => member.ordinal !== primary && member.isConnected && isRunning(member),
  );
  const options = { epoch, timeoutMs: freezeTimeoutMs, signal };
  const answers = await Promise.allSettled(
    replicas.map(({ launch }) => context.executors.send(launch!.taskId, { kind: 'freeze' }, options)),
  );
  signal.throwIfAborted();
  const sets: GtidSet[] = [parseGtidSet(lastKnownOf(view.cluster, context.lastKnownPrimaryGtid))];
  for (const answer of answers) {
    if (answer.status !== 'fulfilled' || answer.value.outcome !== 'done') continue;
    const { gtidExecuted = '', gtidReceived = '' } = answer.value;
    sets.push(parseGtidSet(gtidExecuted), parseGtidSet(gtidReceived));
  }
  if ((rule?.k ?? 0) === 0) {
    const logged = await readPostMortem(context, view, signal);
    if (logged) sets.push(parseGtidSet(logged.gtid));
  }
  return compactGtidSet(unionGtidSets(...sets));
}

/** One that runs and could not be demoted. When it cannot be fenced either the others' silence has to do. */
async function fencePrimary(context: Context, view: ClusterView, signal: AbortSignal): Promise<void> {
  const primary = primaryOf(view);
  if (!primary?.launch || !primary.isConnected || !isRunning(primary)) return;
  const options = { epoch: view.cluster.epoch, timeoutMs: fenceTimeoutMs, signal };
  await context.executors.send(primary.launch.taskId, { kind: 'fence' }, options).catch((error: unknown) => {
    signal.throwIfAborted();
    context.log.warn({ err: error }, 'the primary could not be fenced');
  });
}

/** Replicas first get what they lack, so that each archive is whole by itself; nobody waits for one that cannot. */
async function endInstances(context: Context, { input: { clusterId }, signal }: Args): Promise<void> {
  const before = await gather(context, clusterId);
  const { retained, epoch } = before.cluster;
  if (retained?.within === undefined || retained.endedAt !== undefined) return;
  const { within } = retained;
  const running = before.members.filter((member) => member.isConnected && isRunning(member));
  const send = (
    members: readonly MemberView[],
    body: Parameters<typeof context.executors.send>[1],
    timeoutMs: number,
  ) =>
    Promise.allSettled(
      members.map(({ launch }) => context.executors.send(launch!.taskId, body, { epoch, timeoutMs, signal })),
    );
  const replicas = running.filter(({ ordinal }) => ordinal !== before.cluster.primary);
  await send(replicas, { kind: 'catchUp', gtidSet: within, timeoutMs: catchUpMs }, catchUpMs + freezeTimeoutMs);
  signal.throwIfAborted();
  const ends = await send(running, { kind: 'stop' }, stopTimeoutMs);
  signal.throwIfAborted();
  for (const end of ends)
    if (end.status === 'rejected') context.log.warn({ err: end.reason, clusterId }, 'a member does not end in time');
  const window = await waitArchived(context, { clusterId, within, signal });
  await record(context, clusterId, { endedAt: context.clock.now(), window });
}

/** Until each archive that is reached holds all, for a while; then what they hold counts. */
async function waitArchived(
  context: Context,
  { clusterId, within, signal }: { readonly clusterId: string; readonly within: string; readonly signal: AbortSignal },
): Promise<NonNullable<Retained['window']>> {
  const since = context.clock.now();
  const wanted = parseGtidSet(within);
  return lookUntil(context, clusterId, signal, async () => {
    const view = await gather(context, clusterId);
    const areWhole = view.members.every(({ status, isConnected }) => {
      const spans = (isConnected && status?.archive?.spans) || [];
      const sets = spans.flatMap(({ fromGtids, gtidSet }) => [parseGtidSet(fromGtids), parseGtidSet(gtidSet)]);
      return spans.length === 0 || isGtidSubset(wanted, unionGtidSets(...sets));
    });
    if (!areWhole && context.clock.now() - since < archiveMs) return undefined;
    return windowOf(view, within);
  });
}

/** To which moments a copy can lead: from the oldest good backup that goes forward without a gap. */
export function windowOf({ members, kept }: Pick<ClusterView, 'members' | 'kept'>, within: string) {
  const spans = members.flatMap(({ status }) => status?.archive?.spans ?? []);
  const wanted = parseGtidSet(within);
  const backups = kept
    .flatMap(({ id, state, badReason, gtidSet, endedAt }) =>
      state === 'complete' && badReason === null && gtidSet !== null && endedAt !== null
        ? [{ id, gtidSet, endedAt }]
        : [],
    )
    .filter(({ gtidSet }) => isGtidSubset(parseGtidSet(gtidSet), wanted))
    .toSorted((one, other) => one.endedAt - other.endedAt);
  const covered = backups.map((backup) => ({
    backup,
    ...findCoverage({ spans, acknowledged: within, from: backup.gtidSet }),
  }));
  const first = covered.find(({ gap }) => gap === '');
  const { missing } = first ?? covered[0] ?? findCoverage({ spans, acknowledged: within, from: null });
  const archivedUntil = spans.reduce((latest, { lastAt }) => Math.max(latest, lastAt ?? 0), 0);
  return {
    from: first?.backup.endedAt ?? null,
    to: first ? Math.max(first.backup.endedAt, archivedUntil) : null,
    backupId: first?.backup.id ?? null,
    missing,
  };
}

async function settle(context: Context, { input: { clusterId }, signal }: Args): Promise<void> {
  await lookUntil(context, clusterId, signal, async () => {
    const view = await gather(context, clusterId);
    const { cluster, members } = view;
    if (cluster.desired !== 'retained' || !cluster.retained || cluster.retained.downAt !== undefined) return true;
    // What is launched for a copy is not the cluster's own.
    if (members.some((member) => member.isLive && !isLending(view, member))) return undefined;
    await record(context, clusterId, { downAt: context.clock.now() });
    const missing = cluster.retained.window?.missing ?? '';
    const notes = [
      ...(cluster.retained.isExact === false ? ['its primary did not say what it held at the end'] : []),
      ...(missing === '' ? [] : [`in no archive: ${missing}`]),
    ];
    const message = ['its tasks have ended, volumes and reservations are kept', ...notes].join('; ');
    await emit(context, 'cluster.retained', cluster, message.slice(0, 1000), {});
    return true;
  });
}
