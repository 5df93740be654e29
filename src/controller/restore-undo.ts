/** What the actors of a restore share, and how one is taken back of which nothing was touched. */
import type { RestoreInput } from '../machines/restore.ts';
import { closeRestore, getRestore, recordRestore } from '../store/restores.ts';
import type { RestoreFacts, RestoreRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, gather, isRunning, type MemberView, primaryOf } from './gather.ts';
import { sendStart } from './member-actors.ts';
import { lookUntil } from './wakes.ts';

const fenceTimeoutMs = 10_000;

export type Args = { readonly input: RestoreInput; readonly signal: AbortSignal };
export interface Work {
  readonly view: ClusterView;
  readonly row: RestoreRow;
  /** Who is filled. */
  readonly self: MemberView;
}

export async function begin(context: Context, input: RestoreInput): Promise<Work> {
  const [view, row] = await Promise.all([gather(context, input.clusterId), getRestore(context.store, input.restoreId)]);
  return { view, row, self: view.members.find(({ ordinal }) => ordinal === row.ordinal)! };
}

export async function record(
  context: Context,
  row: RestoreRow,
  name: string,
  facts: RestoreFacts = {},
  detail?: string,
): Promise<void> {
  const step = { name, at: context.clock.now(), ...(detail ? { detail: detail.slice(0, 2000) } : {}) };
  await recordRestore(context.store, context.leader, row.id, { facts, step });
  context.wakes.wake(row.clusterId);
}

/** Touched: the data volume says so, or it is not known that it was not. */
export function isTouched({ row, self }: Work): boolean {
  if (row.facts.fillingAt === undefined) return false;
  const { status, isConnected } = self;
  if (!isConnected || !status) return true;
  const isOurs = status.work?.commandId.startsWith(`restore.${row.id}.`) === true;
  if (isOurs && status.work?.outcome === 'running') return true;
  return status.incarnation === row.incarnation || !status.isInitialised;
}

/** Nothing was touched: all members are started again in their epoch; who they are to be is the loops' work as always. */
export async function undo(context: Context, { input, signal }: Args): Promise<void> {
  const { row, view } = await begin(context, input);
  if (row.fencingAt !== null) {
    if (row.facts.fillingAt !== undefined && (await wasTouchedAfterAll(context, input, signal))) return;
    await startAll(context, input, signal);
  }
  const { code, message } = row.facts.undoing!;
  await closeRestore(context.store, context.leader, row.id, { state: 'refused', code, message });
  await emit(context, 'restore.refused', view.cluster, message, { data: { restore: row.id, code } });
  context.wakes.wake(view.cluster.id);
}

/** A command that is on its way is refused after a fence of ours; then the volume says the truth. */
async function wasTouchedAfterAll(context: Context, input: RestoreInput, signal: AbortSignal): Promise<boolean> {
  const before = await begin(context, input);
  const { launch, status } = before.self;
  if (!launch || !before.self.isConnected) throw new Error(`member ${before.row.ordinal} is not reached`);
  const options = { epoch: before.view.cluster.epoch, timeoutMs: fenceTimeoutMs, signal };
  await context.executors.send(launch.taskId, { kind: 'fence' }, options);
  const seen = status?.sequence ?? 0;
  return lookUntil(context, input.clusterId, signal, async () => {
    const work = await begin(context, input);
    const now = work.self.status;
    if (!work.self.isConnected || !now || now.work?.outcome === 'running') return undefined;
    if (now.sequence <= seen && now.instance !== 'held') return undefined;
    if (!isTouched(work)) return false;
    await record(context, work.row, 'goes on: the data volume was touched', { undoing: null });
    return true;
  });
}

async function startAll(context: Context, input: RestoreInput, signal: AbortSignal): Promise<void> {
  const told = new Set<number>();
  await lookUntil(context, input.clusterId, signal, async () => {
    const { view } = await begin(context, input);
    const resting = view.members.filter(
      ({ isConnected, status, launch }) =>
        isConnected && launch && status && ['held', 'stopped', 'none'].includes(status.instance),
    );
    await Promise.all(
      resting.map(async (member) => {
        if (told.has(member.ordinal)) return;
        told.add(member.ordinal);
        await sendStart(context, view, member, signal).catch((error: unknown) => {
          told.delete(member.ordinal);
          context.log.warn({ err: error, ordinal: member.ordinal }, 'a member could not be started again yet');
        });
      }),
    );
    const primary = primaryOf(view);
    // Ended for good: a failover follows. Others that do not start are the loops' work, too.
    return !primary?.isLive || isRunning(primary) ? true : undefined;
  });
}
