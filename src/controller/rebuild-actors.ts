/** What the rebuild machine's actors do, and the one place that opens a rebuild by itself. */
import { fromPromise } from 'xstate';
import type { CommandBody, Status } from '../channel/protocol.ts';
import type { VolumeVerdict } from '../cluster/lost-volume.ts';
import { estimateWays, type WayEstimate } from '../cluster/rebuild-way.ts';
import { Refusal, toErrorCode } from '../errors.ts';
import { type RebuildInput, rebuildMachine } from '../machines/rebuild.ts';
import { getCluster, readClusterSecrets } from '../store/clusters.ts';
import { findNewestFailover } from '../store/failovers.ts';
import { markInitialised, setMemberIncarnation } from '../store/members.ts';
import { closeRebuild, getRebuild, listRebuilds, openRebuild, setRebuild } from '../store/rebuilds.ts';
import type { RebuildRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, gather, isRunning, type MemberView, primaryOf } from './gather.ts';
import { judgeData } from './lost-volumes.ts';
import { nameTry } from './tries.ts';
import {
  countsForBudget,
  describeTrim,
  findKeep,
  isLeftBehind,
  isPassing,
  issuedBy,
  isTrimHopeless,
  isUndecided,
  trimFailedWay,
  trimWay,
} from './trimming.ts';
import { lookUntil } from './wakes.ts';

/** Automatic rebuilds of one member within an hour; past it a person has to look. */
const budget = { count: 3, withinMs: 3600_000 } as const;
const maxAttempts = 5;
/**
 * Of the rebuilds that a restore opens: what their members hold is left on purpose, all of it. It is not trimmed to, not
 * saved as a tail (the safety backup and the archives have it), and does not count against the budget.
 */
export const restoreRequester = 'restore';
/** Refused again each time, until a person has done something. */
const hopeless: ReadonlySet<string> = new Set(['IS_PRIMARY', 'NO_PRIMARY', 'LEFTOVER_NOT_SAVED']);
/** A change of the primary excuses a try that failed until so long after its end: the longest wait within a try. */
const excusedMs = 120_000;

/** Opens a rebuild unless one is open; refuses past the budget, so that nothing loops for ever. */
export async function openRebuildFor(
  context: Context,
  view: ClusterView,
  ordinal: number,
  reason: string,
): Promise<void> {
  if (view.rebuilds.some((rebuild) => rebuild.ordinal === ordinal)) return;
  const since = context.clock.now() - budget.withinMs;
  const recent = (await listRebuilds(context.store, view.cluster.id))
    .filter((rebuild) => rebuild.ordinal === ordinal && rebuild.startedAt > since)
    .filter((rebuild) => rebuild.requestedBy === 'automation' && countsForBudget(rebuild));
  if (recent.length >= budget.count) {
    throw new Refusal(
      'REBUILD_BUDGET',
      `member ${ordinal} was rebuilt ${recent.length} times within the hour: ${reason}`,
    );
  }
  await openRebuild(context.store, {
    id: context.newId(),
    clusterId: view.cluster.id,
    ordinal,
    reason,
    requestedBy: 'automation',
    incarnation: context.newId(),
    serverUuid: context.newId(),
    leader: context.leader,
  });
  await emit(context, 'rebuild.started', view.cluster, reason, { ordinal });
  context.wakes.wake(view.cluster.id);
}

export function provideRebuild(context: Context) {
  type Args = { input: RebuildInput; signal: AbortSignal };
  const effect = <T>(run: (context: Context, args: Args) => Promise<T>) =>
    fromPromise<T, RebuildInput>(({ input, signal }) => run(context, { input, signal }));
  return rebuildMachine.provide({
    actors: {
      check: effect(async (_, { input }) => ({
        isOpen: (await getRebuild(context.store, input.rebuildId)).state === 'open',
      })),
      leaveVoters: effect(leaveVoters),
      chooseWay: effect(chooseWay),
      fill: effect(fill),
      fail: fromPromise<void, RebuildInput & { readonly error: unknown }>(({ input }) => fail(context, input)),
    },
    actions: { logIgnored: () => {} },
  });
}

async function read(context: Context, { clusterId, rebuildId }: RebuildInput) {
  const [view, rebuild] = await Promise.all([gather(context, clusterId), getRebuild(context.store, rebuildId)]);
  const self = view.members.find((member) => member.ordinal === rebuild.ordinal)!;
  const primary = primaryOf(view);
  if (primary?.ordinal === rebuild.ordinal) {
    throw new Refusal('IS_PRIMARY', 'the primary cannot be rebuilt: hand over first with a switchover');
  }
  return { view, rebuild, self, primary };
}

/** The loop takes the member out of the voters because a rebuild is open; this only waits for it. */
async function leaveVoters(
  context: Context,
  { input, signal }: { input: RebuildInput; signal: AbortSignal },
): Promise<void> {
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, rebuild } = await read(context, input);
    if (view.cluster.epoch === 0) throw new Refusal('NO_PRIMARY', 'there is no primary to rebuild from yet');
    return view.cluster.rule?.voters.some((voter) => voter.ordinal === rebuild.ordinal) ? undefined : true;
  });
}

/**
 * A held member is trimmed: nothing is copied. Else own backup volume first: it costs no network. It serves only if the primary has all that it holds, and still has the
 * logs that follow it. Else CLONE, from a replica if one serves, so that the primary is spared.
 */
async function chooseWay(
  context: Context,
  { input, signal }: { input: RebuildInput; signal: AbortSignal },
): Promise<void> {
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, rebuild, self, primary } = await read(context, input);
    if (rebuild.way !== null && rebuild.way !== trimFailedWay) return true;
    if (!self.isConnected || !self.status || !primary?.status || !primary.isConnected) return undefined;
    const isTrimmed = isLeftBehind(view, self) && judgeData(self) === null;
    if (isTrimmed && rebuild.way === null && rebuild.requestedBy !== restoreRequester) {
      if (isUndecided(view) || findKeep(view, primary) === null) return undefined;
      await setRebuild(context.store, context.leader, rebuild.id, { way: trimWay });
      return true;
    }
    // A donor that is down would only use up the tries.
    if (view.failover || !isRunning(primary)) return undefined;
    const hasTriedOthers = rebuild.attempts > (rebuild.way === trimFailedWay ? 1 : 0);
    const ways = estimateFor(context, view, self, primary);
    const chosen = (hasTriedOthers ? null : ways[0]) ?? ways.find(({ way }) => way.startsWith('clone:'))!;
    const message = ways.map(describeWay).join('; ');
    await setRebuild(context.store, context.leader, rebuild.id, { way: chosen.way, message });
    await emit(context, 'rebuild.way', view.cluster, `${chosen.way}, of ${message}`, {
      ordinal: rebuild.ordinal,
      data: { way: chosen.way, ways },
    });
    return true;
  });
}

function estimateFor(context: Context, view: ClusterView, self: MemberView, primary: MemberView): WayEstimate[] {
  const donor = chooseDonor(view, self.ordinal, primary);
  const { gtidExecuted, gtidPurged } = primary.status!;
  return estimateWays({
    executed: gtidExecuted,
    purged: gtidPurged,
    dataBytes: dataMbOf(donor) * 1024 * 1024,
    backups: self.status!.backups.filter(({ id, isBad }) => !isBad && !isBarred(view, id)),
    donors: [donor.ordinal],
    rates: context.rates.read(),
  });
}

/** Its row says more than the volume could: found bad where no mark can be written, or about to be removed. */
function isBarred({ kept }: ClusterView, backupId: string): boolean {
  return kept.some(({ id, badReason, state }) => id === backupId && (badReason !== null || state === 'removing'));
}

/** A volume on a shared disk tells what all of the disk holds. */
function dataMbOf({ status, bundle }: MemberView): number {
  const sizeMb = bundle?.bundle.data.sizeMb ?? Number.POSITIVE_INFINITY;
  return Math.min(sizeMb, status?.volumes.data.usedMb ?? sizeMb);
}

function describeWay({ way, copyBytes, toApply, estimateMs }: WayEstimate): string {
  const copied = `${Math.round(copyBytes / 1e6)} MB to copy`;
  const applied = toApply > 0 ? ` and ${toApply} transactions to apply` : '';
  return `${way}: ${copied}${applied}, about ${Math.ceil(estimateMs / 1000)} s`;
}

function chooseDonor(view: ClusterView, ordinal: number, primary: MemberView): MemberView {
  const others = view.members.filter((member) => member.ordinal !== ordinal && member.ordinal !== primary.ordinal);
  return (
    others.find((member) => member.isConnected && isRunning(member) && member.member.phase === 'serving') ?? primary
  );
}

async function fill(context: Context, { input, signal }: { input: RebuildInput; signal: AbortSignal }): Promise<void> {
  let commandId: string | null = null;
  const stopwatch = createStopwatch(context);
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, rebuild, self } = await read(context, input);
    if (!self.isConnected || !self.status || !self.launch || !self.bundle) return undefined;
    const { status } = self;
    stopwatch(status);
    // After a relaunch the executor has its secrets only from `start`, which the member machine sends first.
    // A data volume that was lost is not started: the rebuild brings them.
    const lost = judgeData(self);
    if ((status.instance === 'none' && !mayFill(rebuild, lost)) || status.instance === 'starting') return undefined;
    if (status.incarnation === rebuild.incarnation && status.isInitialised && status.instance === 'running') {
      await finish(context, view, rebuild, self);
      return true;
    }
    commandId ??= nameTry(`rebuild.${rebuild.id}.${rebuild.attempts}`, status.work);
    if (status.work?.commandId === commandId) {
      const { outcome, code, message } = status.work;
      if (outcome === 'failed') throw new Refusal(toErrorCode(code), message ?? 'the rebuild failed');
      // There was nothing to trim: the member goes on as it is.
      const isKept = outcome === 'done' && rebuild.way === trimWay && status.instance === 'running';
      if (!isKept) return undefined;
      await finish(context, view, rebuild, self);
      return true;
    }
    const from = sourceOf(view, rebuild);
    if (!from || isDonorTaken(view, rebuild)) return undefined;
    const body: CommandBody = {
      kind: 'rebuild',
      incarnation: rebuild.incarnation,
      serverUuid: rebuild.serverUuid,
      serverId: rebuild.serverId,
      from,
      ...(mayFill(rebuild, lost) ? { emptyPlace: status.volumesFound!.data.place } : {}),
      ...(from.kind === 'trim' || rebuild.requestedBy === restoreRequester
        ? {}
        : { save: saveFirst(view, rebuild, self) }),
      secrets: await context.memberSecrets(await readClusterSecrets(context.store, view.cluster.id), {
        commonName: `${view.cluster.name}-${self.ordinal}`,
        ip: self.bundle.ip,
        hostname: self.bundle.hostname,
      }),
    };
    const options = { epoch: view.cluster.epoch, timeoutMs: 15_000, signal, id: commandId };
    await context.executors.send(self.launch.taskId, body, options).catch((error: unknown) => {
      if (error instanceof Refusal || signal.aborted) throw error;
      // It may have begun: that is told, or the very same command is sent again. Another one would find it BUSY.
      context.log.warn({ err: error, rebuild: rebuild.id }, 'a rebuild was not answered');
    });
    return undefined;
  });
}

/** A person who asks for a rebuild says that the disk is not just away. */
function mayFill({ requestedBy }: RebuildRow, lost: VolumeVerdict | null): boolean {
  return lost?.kind === 'take' || (lost?.kind === 'ask' && requestedBy !== 'automation');
}

/**
 * MySQL serves one CLONE at a time: the next one waits for its turn, which costs no try. Of two that would begin at once
 * the older one does; a member that is not reached keeps nobody waiting.
 */
export function isDonorTaken({ rebuilds, members }: ClusterView, { id, way }: RebuildRow): boolean {
  if (!way?.startsWith('clone:')) return false;
  const own = rebuilds.findIndex((rebuild) => rebuild.id === id);
  return rebuilds.some((other, index) => {
    if (other.way !== way || other.id === id) return false;
    const member = members.find(({ ordinal }) => ordinal === other.ordinal);
    if (!member?.isConnected || !member.status) return false;
    const { work } = member.status;
    if (!work?.commandId.startsWith(`rebuild.${other.id}.`)) return index < own && member.status.instance !== 'none';
    return work.outcome === 'running';
  });
}

/** Learns how fast it copies, by the executor's own clock. */
function createStopwatch({ rates }: Context): (status: Status) => void {
  let first: { readonly step: string; readonly bytes: number; readonly at: number } | null = null;
  return ({ work, at }) => {
    const kind = work?.step === 'copying' ? 'diskBytes' : work?.step === 'cloning' ? 'networkBytes' : null;
    if (!work || !kind) return;
    if (first?.step === work.step) rates.learn(kind, work.doneBytes - first.bytes, at - first.at);
    else first = { step: work.step, bytes: work.doneBytes, at };
  };
}

/** In these states of the data nobody knows what can still be read: it is tried, and not insisted on. */
const damaged: ReadonlySet<string> = new Set(['DATA_DIR_DAMAGED', 'INCARNATION_MISMATCH', 'REBUILD_UNFINISHED']);

/** What only this member has is saved first. What the primary itself has issued is never only here. */
function saveFirst(view: ClusterView, { isForced }: RebuildRow, self: MemberView) {
  const { gtidExecuted = '', serverUuid } = primaryOf(view)?.status ?? {};
  const issued = serverUuid ? [issuedBy(serverUuid)] : [];
  const isDamaged = damaged.has(self.status?.reason?.code ?? '');
  return { keep: [gtidExecuted, ...issued].filter((set) => set !== '').join(','), isRequired: !isForced && !isDamaged };
}

/** Null: what to trim to is not known now. */
function sourceOf(view: ClusterView, rebuild: RebuildRow) {
  if (rebuild.way === trimWay) {
    const keep = findKeep(view, primaryOf(view));
    return keep === null ? null : { kind: 'trim' as const, keep };
  }
  const [kind, what] = (rebuild.way ?? '').split(':') as [string, string];
  if (kind === 'backup') return { kind: 'backup' as const, backupId: what };
  const donor = view.members.find((member) => member.ordinal === Number(what));
  if (!donor?.bundle) throw new Error(`donor ${what} has no bundle`);
  return { kind: 'clone' as const, donor: { host: donor.bundle.ip, port: donor.bundle.bundle.ports.mysql } };
}

/** The volume says what it holds: only now does the member's row say so too. */
async function finish(context: Context, view: ClusterView, rebuild: RebuildRow, self: MemberView): Promise<void> {
  const { clusterId, ordinal, incarnation, serverUuid, serverId } = rebuild;
  if (self.status?.incarnation === incarnation) {
    const change = { clusterId, ordinal, incarnation, serverUuid, serverId };
    await setMemberIncarnation(context.store, context.leader, change);
    await markInitialised(context.store, context.leader, { clusterId, ordinal, incarnation, at: context.clock.now() });
  }
  await closeRebuild(context.store, context.leader, rebuild.id, { state: 'done' });
  const isTrim = rebuild.way === trimWay && self.status;
  const told = isTrim ? describeTrim(self.status, self.member.incarnation) : null;
  const message = told?.message ?? `filled anew from ${rebuild.way}`;
  await emit(context, 'rebuild.done', view.cluster, message, { ordinal, data: { way: rebuild.way, ...told?.data } });
  context.wakes.wake(clusterId);
}

/**
 * While the primary is being changed, or is not there, a rebuild waits, and its sources come and go: that is no try.
 * Only what the member's own executor refused is one also then.
 */
async function isExcused(context: Context, rebuild: RebuildRow, error: unknown): Promise<boolean> {
  if (error instanceof Refusal && !isPassing(error) && error.code !== 'COMMAND_FAILED') return false;
  const primary = primaryOf(await gather(context, rebuild.clusterId));
  if (!primary?.isConnected || !primary.status?.isWritable) return true;
  const newest = await findNewestFailover(context.store, rebuild.clusterId);
  if (!newest || newest.kind === 'first') return false;
  return newest.endedAt === null || context.clock.now() - newest.endedAt < excusedMs;
}

async function fail(context: Context, input: RebuildInput & { readonly error: unknown }): Promise<void> {
  const rebuild = await getRebuild(context.store, input.rebuildId);
  if (rebuild.state !== 'open') return;
  const { error } = input;
  const message = error instanceof Error ? error.message : 'the deadline passed';
  context.log.warn({ err: error, rebuild: rebuild.id, way: rebuild.way }, 'a try of the rebuild failed');
  if (await isExcused(context, rebuild, error)) {
    // The donor may be who went away.
    const way = rebuild.way?.startsWith('clone:') ? null : rebuild.way;
    await setRebuild(context.store, context.leader, rebuild.id, { way });
    return;
  }
  const attempts = rebuild.attempts + 1;
  const isHopeless = error instanceof Refusal && hopeless.has(error.code);
  if (attempts < maxAttempts && !isHopeless) {
    const way = rebuild.way === trimWay && isTrimHopeless(error) ? trimFailedWay : null;
    await setRebuild(context.store, context.leader, rebuild.id, { way, attempts });
    return;
  }
  const code = error instanceof Refusal ? error.code : 'INTERNAL';
  await closeRebuild(context.store, context.leader, rebuild.id, { state: 'failed', code, message });
  const cluster = await getCluster(context.store, rebuild.clusterId);
  await emit(context, 'rebuild.failed', cluster, message, { ordinal: rebuild.ordinal });
}
