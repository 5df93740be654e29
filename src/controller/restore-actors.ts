/**
 * What the restore machine's actors do. Every actor stores its fact before it returns and may run twice. While it runs
 * between fence and commit, nothing else touches the cluster (isHeldForRestore). Commands before the commit point carry
 * the old epoch.
 */
import { fromPromise } from 'xstate';
import { isGtidSubset, parseGtidSet } from '../cluster/gtid-set.ts';
import { lostOf } from '../cluster/restore-plan.ts';
import { acknowledgements } from '../cluster/voters.ts';
import { Refusal, toErrorCode } from '../errors.ts';
import { type RestoreInput, type RestoreProgress, restoreMachine } from '../machines/restore.ts';
import { getBackup, openBackup } from '../store/backups.ts';
import { readClusterSecrets } from '../store/clusters.ts';
import { closeRestore, commitRestore, recordFilled, recordRestore } from '../store/restores.ts';
import type { BackupRow, RestoreRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { share } from './copying.ts';
import { type ClusterView, isInPlace, isRunning, primaryOf } from './gather.ts';
import { sendStart } from './member-actors.ts';
import { restoreRequester } from './rebuild-actors.ts';
import { fenceForRestore } from './restore-fence.ts';
import { type Args, begin, isTouched, record, undo, type Work } from './restore-undo.ts';
import { nameTry } from './tries.ts';
import { lookUntil } from './wakes.ts';

/** Before anything was touched: then it is taken back. Afterwards there is no end to trying. */
const maxAttempts = 5;
const fillTimeoutMs = 15_000;
/** These say nothing about the way; everything else is refused again each time. */
const worthAnotherTry: ReadonlySet<string> = new Set([
  ...['TRANSFER_BROKEN', 'TRANSFER_REFUSED', 'BUSY', 'SUPERSEDED', 'NOT_RUNNING', 'COMMAND_FAILED', 'TIMED_OUT'],
  ...['INSTANCE_FAILED', 'INSTANCE_LOST'],
]);

export function provideRestore(context: Context) {
  const effect = <T>(run: (context: Context, args: Args) => Promise<T>) =>
    fromPromise<T, RestoreInput>(({ input, signal }) => run(context, { input, signal }));
  return restoreMachine.provide({
    actors: {
      readProgress: effect(readProgress),
      backUp: effect(backUp),
      fence: effect(fence),
      fill: effect(fill),
      commit: effect(commit),
      join: effect(join),
      fail: fromPromise<void, RestoreInput & { readonly error: unknown }>(({ input }) => fail(context, input)),
      undo: effect(undo),
    },
    actions: {
      logRetry: (_, { error }) => context.log.warn({ err: error }, 'a step of the restore failed and is tried again'),
    },
  });
}

async function readProgress(context: Context, { input }: Args): Promise<RestoreProgress> {
  const { view, row } = await begin(context, input);
  const { facts, fromEpoch } = row;
  const isDeleting = view.cluster.desired === 'deleted';
  if (isDeleting && row.state === 'open') {
    const refusal = { code: 'CLUSTER_DELETING', message: 'the cluster is being deleted' };
    await closeRestore(context.store, context.leader, row.id, { state: 'refused', ...refusal });
  }
  const isCommitted = fromEpoch !== null && view.cluster.epoch > fromEpoch;
  if (row.steps.length === 0 && row.state === 'open' && !isDeleting) {
    await record(context, row, 'asked for');
    const message = `asked for by ${row.requestedBy}: ${describeTarget(row)}`;
    await emit(context, 'restore.started', view.cluster, message, { data: { restore: row.id } });
  }
  return {
    isOpen: row.state === 'open' && !isDeleting,
    isSafe: facts.safety !== undefined,
    isFenced: facts.fencedAt !== undefined,
    isFilled: facts.gtidSet !== undefined,
    isCommitted,
    isUndoing: facts.undoing != null,
  };
}

function describeTarget({ origin, ordinal }: RestoreRow): string {
  const { until, backup } = origin;
  const to =
    until.kind === 'at'
      ? `as of ${new Date(until.atMs).toISOString()}`
      : until.kind === 'gtid'
        ? until.gtidSet
        : 'as it is';
  return `backup ${backup.id} of member ${backup.ordinal}, ${to}, into member ${ordinal}`;
}

/** Of the primary, complete. When there can be none it is refused, unless a person said to go on. */
async function backUp(context: Context, { input, signal }: Args): Promise<void> {
  try {
    const made = await lookUntil(context, input.clusterId, signal, () => lookAtSafetyBackup(context, input));
    const { row } = await begin(context, input);
    await record(context, row, 'safety backup is complete', {
      safety: { backup: made.id, detail: made.gtidSet ?? '' },
    });
  } catch (error) {
    signal.throwIfAborted();
    const { row } = await begin(context, input);
    const message = (error as Error).message;
    if (!row.isForced) throw new Refusal('SAFETY_BACKUP_FAILED', `the safety backup could not be made: ${message}`);
    context.log.warn({ err: error, restore: row.id }, 'a restore goes on without its safety backup, as was asked for');
    await record(context, row, 'there is no safety backup', { safety: { backup: null, detail: message } }, message);
  }
}

async function lookAtSafetyBackup(context: Context, input: RestoreInput): Promise<BackupRow | undefined> {
  const { view, row } = await begin(context, input);
  requireWanted(view);
  const known = await getBackup(context.store, row.safetyBackupId).catch(() => null);
  if (known?.state === 'complete') return known;
  if (known?.state === 'open') return undefined;
  if (known) throw new Error(`${known.message ?? 'it is not there any more'} (${known.code ?? known.state})`);
  const primary = primaryOf(view);
  if (!primary?.isConnected || !isRunning(primary)) throw new Error('the primary does not run, or is not reached');
  // Other work on this member is waited for.
  if (view.backups.some(({ ordinal }) => ordinal === primary.ordinal)) return undefined;
  const wanted = { id: row.safetyBackupId, clusterId: view.cluster.id, ordinal: primary.ordinal };
  await openBackup(context.store, { ...wanted, requestedBy: restoreRequester, leader: context.leader });
  context.wakes.wake(view.cluster.id);
  return undefined;
}

async function fence(context: Context, { input, signal }: Args): Promise<void> {
  const { row, view } = await begin(context, input);
  const { held, detail } = await fenceForRestore(context, row, signal);
  await record(context, row, 'fenced', { held, fencedAt: context.clock.now() }, detail);
  await emit(context, 'restore.fenced', view.cluster, detail, { data: { restore: row.id, gtidSet: held } });
}

async function fill(context: Context, { input, signal }: Args): Promise<void> {
  let commandId: string | null = null;
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, row, self } = await begin(context, input);
    requireWanted(view);
    const { status, launch } = self;
    if (!self.isConnected || !status || !launch || !self.bundle) return undefined;
    if (status.incarnation === row.incarnation && status.isInitialised && status.instance === 'running') {
      const step = { name: 'filled', at: context.clock.now(), detail: status.gtidExecuted };
      await recordFilled(context.store, context.leader, row.id, { facts: { gtidSet: status.gtidExecuted }, step });
      return true;
    }
    commandId ??= nameTry(`restore.${row.id}.${row.attempts}`, status.work);
    if (status.work?.commandId === commandId) {
      const { outcome, code, message } = status.work;
      if (outcome !== 'failed') return undefined;
      throw new Refusal(toErrorCode(code), message ?? 'it failed');
    }
    await sendFill(context, { view, row, self }, { commandId, signal });
    return undefined;
  });
}

async function sendFill(
  context: Context,
  { view, row, self }: Work,
  { commandId, signal }: { readonly commandId: string; readonly signal: AbortSignal },
): Promise<void> {
  const { origin, incarnation, serverUuid, serverId } = row;
  const { donors } = await share(context, origin, signal);
  // Before it is sent: from here on the volume may have been touched.
  if (row.facts.fillingAt === undefined) await record(context, row, 'filling', { fillingAt: context.clock.now() });
  const secrets = await context.memberSecrets(await readClusterSecrets(context.store, view.cluster.id), {
    commonName: `${view.cluster.name}-${self.ordinal}`,
    ip: self.bundle!.ip,
    hostname: self.bundle!.hostname,
  });
  const { id, ordinal } = origin.backup;
  const { until } = origin;
  const within = withinOf(row);
  const from = { kind: 'copy' as const, backup: { id, ordinal }, donors: [...donors], until, within };
  const body = { kind: 'rebuild', incarnation, serverUuid, serverId, from, secrets } as const;
  const options = { epoch: view.cluster.epoch, timeoutMs: fillTimeoutMs, signal, id: commandId };
  await context.executors.send(self.launch!.taskId, body, options);
}

/** All that was acknowledged until the fence; but an older history, chosen by its backup's id, is what it was. */
function withinOf({ origin, facts }: RestoreRow): string {
  const { held = '' } = facts;
  return isGtidSubset(parseGtidSet(origin.within), parseGtidSet(held)) ? held : origin.within;
}

/** The filled member alone is the new epoch: what it holds is its base, and no commit waits until another has joined. */
async function commit(context: Context, { input, signal }: Args): Promise<void> {
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, row, self } = await begin(context, input);
    requireWanted(view);
    if (view.cluster.epoch !== row.fromEpoch) return true;
    const { status } = self;
    if (!self.isConnected || !status || status.incarnation !== row.incarnation) return undefined;
    if (!isRunning(self)) {
      if (status.instance === 'none' || status.instance === 'stopped' || status.instance === 'failed')
        await sendStart(context, view, self, signal);
      return undefined;
    }
    const { incarnation, bootId, gtidExecuted } = status;
    if (gtidExecuted !== row.facts.gtidSet) throw new Error('the filled member does not hold what it was filled with');
    const voters = [{ ordinal: row.ordinal, incarnation, bootId }];
    const epoch = row.fromEpoch + 1;
    const rule = { epoch, version: 1, primary: row.ordinal, voters, k: 0, base: gtidExecuted };
    const rebuilds = view.members
      .filter(({ ordinal, member }) => ordinal !== row.ordinal && member.desired === 'present')
      .map(({ ordinal }) => ({
        ...{ id: context.newId(), ordinal, incarnation: context.newId(), serverUuid: context.newId() },
        reason: 'the cluster was restored to a state of its past',
        requestedBy: restoreRequester,
      }));
    const step = { name: 'committed', at: context.clock.now(), detail: `epoch ${epoch}` };
    const isCommitted = await commitRestore(context.store, context.leader, { id: row.id, rule, rebuilds, step });
    if (!isCommitted) throw new Error('the epoch has moved on');
    const message = `member ${row.ordinal} is the primary of epoch ${epoch}, as restored`;
    const data = { restore: row.id, epoch };
    await emit(context, 'restore.committed', view.cluster, message, { ordinal: row.ordinal, data });
    context.wakes.wake(view.cluster.id);
    return true;
  });
}

/** Promoting, filling and joining are done by the loops as always; this waits, and says what became of it. */
async function join(context: Context, { input, signal }: Args): Promise<void> {
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, row } = await begin(context, input);
    requireWanted(view);
    if (row.state !== 'open') return true;
    const { spec, rule, activatedAt } = view.cluster;
    const areInPlace = view.members.every(
      (member) => member.isConnected && isRunning(member) && isInPlace(view, member),
    );
    const isWhole = areInPlace && view.rebuilds.length === 0 && activatedAt !== null;
    if (!isWhole || (rule?.k ?? 0) < acknowledgements(spec.members, spec.durability)) return undefined;
    await closeRestore(context.store, context.leader, row.id, { state: 'done' });
    const { safety, held = '', gtidSet = '' } = row.facts;
    const lost = lostOf(held, gtidSet);
    const back = safety?.backup ? `; safety backup ${safety.backup} and the archives have it` : '';
    const message = `${describeTarget(row)}; left: ${lost === '' ? 'nothing' : lost}${back}`;
    const data = { restore: row.id, lost, safetyBackup: safety?.backup ?? null };
    await emit(context, 'restore.done', view.cluster, message.slice(0, 1000), { ordinal: row.ordinal, data });
    context.wakes.wake(view.cluster.id);
    return true;
  });
}

function requireWanted({ cluster }: ClusterView): void {
  if (cluster.desired === 'deleted') throw new Refusal('CLUSTER_DELETING', 'the cluster is being deleted');
}

async function fail(context: Context, input: RestoreInput & { readonly error: unknown }): Promise<void> {
  const work = await begin(context, input);
  const { view, row } = work;
  if (row.state !== 'open' || view.cluster.desired === 'deleted') return;
  if (row.fromEpoch !== null && view.cluster.epoch > row.fromEpoch) return;
  const { error } = input;
  const code = error instanceof Refusal ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : 'the deadline passed';
  context.log.warn({ err: error, restore: row.id }, 'a step of the restore failed');
  const attempts = row.attempts + 1;
  const isFilling = row.facts.fencedAt !== undefined;
  const mayTryAgain = isFilling && attempts < maxAttempts && (!(error instanceof Refusal) || worthAnotherTry.has(code));
  if (isFilling && (mayTryAgain || isTouched(work))) {
    const isNews = row.code !== code || row.message !== message;
    await recordRestore(context.store, context.leader, row.id, { attempts, failure: { code, message } });
    if (isNews)
      await emit(context, 'restore.failing', view.cluster, message, {
        ordinal: row.ordinal,
        data: { restore: row.id, code },
      });
    return;
  }
  await record(context, row, 'is taken back', { undoing: { code, message } }, `${message} (${code})`);
}
