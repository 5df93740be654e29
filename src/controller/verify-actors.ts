/** What the verify and removal machines' actors do: tell the executor, wait for what it tells, record it. */
import { fromPromise } from 'xstate';
import { Refusal, toErrorCode } from '../errors.ts';
import { type RemovalInput, removalMachine } from '../machines/removal.ts';
import { type VerifyInput, verifyMachine } from '../machines/verify.ts';
import { closeRemoval, getBackup, noteBackup } from '../store/backups.ts';
import { closeVerification, getVerification } from '../store/verifications.ts';
import { backupKeyOf } from './backup-key.ts';
import { type Context, emit } from './context.ts';
import { gather } from './gather.ts';
import { lookUntil } from './wakes.ts';

/** A member that is away for so long is verified another time: the next one waits for this one's end. */
const awayMs = 10 * 60_000;

type Args<T> = { readonly input: T; readonly signal: AbortSignal };

export function provideVerify(context: Context) {
  return verifyMachine.provide({
    actors: {
      check: fromPromise<{ readonly isOpen: boolean }, VerifyInput>(async ({ input }) => ({
        isOpen: (await getVerification(context.store, input.verificationId)).state === 'open',
      })),
      read: fromPromise<void, VerifyInput>((args) => readBackup(context, args)),
      fail: fromPromise<void, VerifyInput & { readonly error: unknown }>(({ input }) => fail(context, input)),
    },
  });
}

async function find(context: Context, { clusterId, verificationId }: VerifyInput) {
  const [view, row] = await Promise.all([gather(context, clusterId), getVerification(context.store, verificationId)]);
  return { view, row, self: view.members.find((member) => member.ordinal === row.ordinal)! };
}

async function readBackup(context: Context, { input, signal }: Args<VerifyInput>): Promise<void> {
  const commandId = `verify.${input.verificationId}`;
  let awaySince: number | null = null;
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, row, self } = await find(context, input);
    if (!self.isConnected || !self.status || !self.launch) {
      awaySince ??= context.clock.now();
      if (context.clock.now() - awaySince < awayMs) return undefined;
      throw new Refusal('TIMED_OUT', `member ${row.ordinal} is away`);
    }
    awaySince = null;
    const { work, backups } = self.status;
    const entry = backups.find(({ id }) => id === row.backupId);
    if (work?.commandId === commandId) {
      if (work.outcome === 'running') return undefined;
      if (work.outcome === 'failed') {
        throw new Refusal(toErrorCode(work.code), work.message ?? 'the verification failed');
      }
      if (entry?.verifiedAt == null) return undefined; // the list comes with the next status
      await noteBackup(context.store, context.leader, row.backupId, {
        verifiedAt: entry.verifiedAt,
        badReason: null,
      });
      await closeVerification(context.store, context.leader, row.id, { state: 'done' });
      await emit(context, 'backup.verified', view.cluster, `every row was read, in ${entry.durationMs ?? 0} ms`, {
        ordinal: row.ordinal,
        data: { backup: row.backupId },
      });
      context.wakes.wake(view.cluster.id);
      return true;
    }
    // Other work of the member goes first; it is looked for again when that has ended.
    if (work?.outcome === 'running') return undefined;
    const { maxBytesPerSec } = view.cluster.backupPolicy;
    await context.executors.send(
      self.launch.taskId,
      { kind: 'verify', backupId: row.backupId, maxBytesPerSec, ...(await backupKeyOf(context, view.cluster.id)) },
      { epoch: view.cluster.epoch, timeoutMs: 10_000, signal, id: commandId },
    );
    return undefined;
  });
}

async function fail(context: Context, input: VerifyInput & { readonly error: unknown }): Promise<void> {
  const { view, row } = await find(context, input);
  const { error } = input;
  const code = error instanceof Refusal ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : 'the deadline passed';
  const isBad = code === 'BACKUP_DAMAGED';
  const backup = await getBackup(context.store, row.backupId);
  const about = { ordinal: row.ordinal, data: { backup: row.backupId, code } };
  // The mark on the volume may have failed; the row keeps it from being used, too.
  const note = { verifiedAt: backup.verifiedAt, badReason: message };
  const isNews =
    isBad && backup.badReason === null && (await noteBackup(context.store, context.leader, backup.id, note));
  if (isNews) await emit(context, 'backup.bad', view.cluster, message, about);
  if (!(await closeVerification(context.store, context.leader, row.id, { state: 'failed', code, message }))) return;
  if (!isBad) await emit(context, 'backup.unverified', view.cluster, message, about);
  context.wakes.wake(view.cluster.id);
}

export function provideRemoval(context: Context) {
  return removalMachine.provide({
    actors: { remove: fromPromise<void, RemovalInput>((args) => remove(context, args)) },
  });
}

async function remove(context: Context, { input, signal }: Args<RemovalInput>): Promise<void> {
  await lookUntil(context, input.clusterId, signal, async () => {
    const [view, backup] = await Promise.all([
      gather(context, input.clusterId),
      getBackup(context.store, input.backupId),
    ]);
    if (backup.state !== 'removing') return true;
    const self = view.members.find((member) => member.ordinal === backup.ordinal);
    if (!self?.isConnected || !self.launch) return undefined;
    await context.executors.send(
      self.launch.taskId,
      { kind: 'removeBackup', backupId: backup.id },
      { epoch: view.cluster.epoch, timeoutMs: 10_000, signal },
    );
    if (!(await closeRemoval(context.store, context.leader, backup.id))) return true;
    await emit(context, 'backup.removed', view.cluster, backup.removalReason ?? 'asked for', {
      ordinal: backup.ordinal,
      data: { backup: backup.id },
    });
    context.wakes.wake(view.cluster.id);
    return true;
  });
}
