/** What the backup machine's actors do: check, tell the executor, wait for its sealed backup, record it. */
import { fromPromise } from 'xstate';
import { chooseForRoom } from '../cluster/retention.ts';
import { Refusal, toErrorCode } from '../errors.ts';
import { type BackupInput, backupMachine } from '../machines/backup.ts';
import { closeBackup, getBackup } from '../store/backups.ts';
import { keptOf, removeBackup } from './backup-keeping.ts';
import { backupKeyOf } from './backup-key.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, gather, isRunning, primaryOf } from './gather.ts';
import { compareWithPrimary } from './joining.ts';
import { lookUntil } from './wakes.ts';

const errantAfterMs = 3000;

type Args = { readonly input: BackupInput; readonly signal: AbortSignal };

export function provideBackup(context: Context) {
  return backupMachine.provide({
    actors: {
      check: fromPromise<{ readonly isOpen: boolean }, BackupInput>((args) => check(context, args)),
      copy: fromPromise<void, BackupInput>((args) => copy(context, args)),
      fail: fromPromise<void, BackupInput & { readonly error: unknown }>(({ input }) => fail(context, input)),
    },
  });
}

async function read(context: Context, { clusterId, backupId }: BackupInput) {
  const [view, backup] = await Promise.all([gather(context, clusterId), getBackup(context.store, backupId)]);
  return { view, backup, self: view.members.find((member) => member.ordinal === backup.ordinal)! };
}

async function check(context: Context, { input, signal }: Args): Promise<{ isOpen: boolean }> {
  let errantSince: number | null = null;
  return lookUntil(context, input.clusterId, signal, async () => {
    const { view, backup, self } = await read(context, input);
    if (backup.state !== 'open') return { isOpen: false };
    if (self.bundle && !self.bundle.bundle.backup)
      throw new Refusal('NO_BACKUP_VOLUME', 'the cluster has no backup volumes');
    if (!self.isConnected || !isRunning(self)) return undefined;
    const errant = findErrant(view, backup.ordinal);
    // The member's status may simply be newer than the primary's: only what stays is errant.
    if (errant !== null) {
      errantSince ??= context.clock.now();
      if (context.clock.now() - errantSince < errantAfterMs) return undefined;
      throw new Refusal('ERRANT', `member ${backup.ordinal} has errant transactions: ${errant}`);
    }
    if (
      !self.status?.backups.some(({ id }) => id === backup.id) &&
      self.status?.work?.commandId !== `backup.${backup.id}`
    ) {
      await emit(context, 'backup.started', view.cluster, `asked for by ${backup.requestedBy}`, {
        ordinal: backup.ordinal,
      });
    }
    return { isOpen: true };
  });
}

/** A backup with a transaction that the primary lacks would bring it back at the next rebuild. */
function findErrant(view: ClusterView, ordinal: number): string | null {
  const primary = primaryOf(view);
  const self = view.members.find((member) => member.ordinal === ordinal);
  if (!primary?.status || !self?.status || primary.ordinal === ordinal) return null;
  const comparison = compareWithPrimary(self.status, primary.status);
  return comparison.kind === 'errant' ? comparison.gtids : null;
}

async function copy(context: Context, { input, signal }: Args): Promise<void> {
  const commandId = `backup.${input.backupId}`;
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view, backup, self } = await read(context, input);
    if (!self.isConnected || !self.status || !self.launch) return undefined;
    const sealed = self.status.backups.find(({ id }) => id === backup.id);
    if (sealed) {
      const { gtidSet, bytes, keyId } = sealed;
      const result = { state: 'complete', gtidSet, bytes } as const;
      if (!(await closeBackup(context.store, context.leader, backup.id, result))) return true;
      await emit(context, 'backup.complete', view.cluster, `${bytes} bytes`, {
        ordinal: backup.ordinal,
        data: { backup: backup.id, ...(keyId == null ? {} : { keyId }) },
      });
      context.wakes.wake(view.cluster.id);
      return true;
    }
    const { work } = self.status;
    if (work?.commandId === commandId) {
      if (work.outcome === 'failed') throw new Refusal(toErrorCode(work.code), work.message ?? 'the backup failed');
      return undefined;
    }
    // What is to make room goes first.
    if (view.kept.some(({ ordinal, state }) => ordinal === backup.ordinal && state === 'removing')) return undefined;
    const { maxBytesPerSec, compress: by, encrypt } = view.cluster.backupPolicy;
    const compress = encrypt === 'none' ? by : (`${by}+${encrypt}` as const);
    const key = encrypt === 'none' ? {} : await backupKeyOf(context, view.cluster.id);
    try {
      await context.executors.send(
        self.launch.taskId,
        { kind: 'backup', backupId: backup.id, maxBytesPerSec, compress, ...key },
        { epoch: view.cluster.epoch, timeoutMs: 10_000, signal, id: commandId },
      );
    } catch (error) {
      if (!(await makeRoom(context, view, backup.ordinal, error))) throw error;
    }
    return undefined;
  });
}

/** Lets those go that the policy does not hold, when that is enough. False: it is not, or that was not the fault. */
async function makeRoom(context: Context, view: ClusterView, ordinal: number, error: unknown): Promise<boolean> {
  if (!(error instanceof Refusal) || error.code !== 'BACKUP_NO_SPACE') return false;
  const missing = Number(error.facts['neededBytes']) - Number(error.facts['roomBytes']);
  if (!Number.isFinite(missing)) return false;
  const going = chooseForRoom(keptOf(view, ordinal), view.cluster.backupPolicy, missing);
  if (going === null || going.length === 0) return false;
  for (const id of going) {
    await removeBackup(context, view, { ordinal, id, reason: 'a new backup needs the room' });
  }
  return true;
}

async function fail(context: Context, input: BackupInput & { readonly error: unknown }): Promise<void> {
  const { view, backup } = await read(context, input);
  const { error } = input;
  const code = error instanceof Refusal ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : 'the deadline passed';
  if (!(await closeBackup(context.store, context.leader, backup.id, { state: 'failed', code, message }))) return;
  await emit(context, 'backup.failed', view.cluster, message, {
    ordinal: backup.ordinal,
    data: { backup: backup.id, code },
  });
  context.wakes.wake(view.cluster.id);
}
