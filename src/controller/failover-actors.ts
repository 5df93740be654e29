/**
 * What the failover machine's actors do: the order of docs/failover-safety.md. Every actor stores its fact before it
 * returns; running one twice changes nothing more. Commands before the commit point carry the old epoch, those after
 * it the new one.
 */
import { fromPromise } from 'xstate';
import type { CommandBody } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { type FailoverInput, type FailoverProgress, failoverMachine } from '../machines/failover.ts';
import { setCooldown } from '../store/clusters.ts';
import { closeFailover } from '../store/failovers.ts';
import { cooldownMs } from './automation.ts';
import { type Context, emit } from './context.ts';
import { catchUp, choose } from './failover-choice.ts';
import { activate, commit } from './failover-commit.ts';
import { fence } from './failover-fence.ts';
import { type Args, begin, record, sendTo, timeoutsMs } from './failover-work.ts';
import { isRunning } from './gather.ts';

export function provideFailover(context: Context) {
  const effect = <T>(run: (context: Context, args: Args) => Promise<T>) =>
    fromPromise<T, FailoverInput>(({ input, signal }) => run(context, { input, signal }));
  return failoverMachine.provide({
    actors: {
      readProgress: effect(readProgress),
      fence: effect(fence),
      choose: effect(choose),
      catchUp: effect(catchUp),
      commit: effect(commit),
      activate: effect(activate),
      close: effect(close),
      undo: fromPromise<void, FailoverInput & { readonly error: unknown }>(({ input, signal }) =>
        undo(context, input, signal),
      ),
    },
    actions: {
      logRetry: (_, { error }) =>
        context.log.warn({ err: error }, 'a step of the failover failed and will be tried again'),
    },
  });
}

async function readProgress(context: Context, args: Args): Promise<FailoverProgress> {
  const { view, row } = await begin(context, args);
  const { facts } = row;
  return {
    isOpen: row.outcome === 'open',
    isFenced: facts.fence !== undefined && facts.reached !== undefined,
    isChosen: facts.chosen !== undefined,
    isCaughtUp: facts.caughtUpAt !== undefined,
    // The cluster's row is the commit point, whatever the failover's own row got to say.
    isCommitted: view.cluster.epoch > row.fromEpoch,
    isActivated: facts.activatedAt !== undefined,
    isTakenBack: facts.takenBackAt !== undefined,
  };
}

async function close(context: Context, args: Args): Promise<void> {
  const { view, row, signal } = await begin(context, args);
  await closeFailover(context.store, context.leader, row.id, 'done');
  if (row.kind === 'failover' && row.requestedBy === 'automation') {
    await setCooldown(context.store, context.leader, view.cluster.id, context.clock.now() + cooldownMs);
  }
  const ms = (row.facts.activatedAt ?? context.clock.now()) - row.startedAt;
  const isWritable = view.cluster.activatedAt !== null;
  await emit(
    context,
    'failover.done',
    view.cluster,
    `${row.kind}: member ${row.facts.chosen} ${isWritable ? `takes writes after ${ms} ms` : 'ended before it took writes'}`,
    {
      data: { failover: row.id, kind: row.kind, ms },
    },
  );
  context.wakes.wake(view.cluster.id);
  // What still hangs on the old primary is dropped, so that clients look for the new one.
  if (row.kind !== 'switchover' || row.fromPrimary === null) return;
  await sendTo(
    context,
    view,
    row.fromPrimary,
    { kind: 'dropClients' },
    { epoch: view.cluster.epoch, timeoutMs: timeoutsMs.follow, signal },
  ).catch((error) => context.log.warn({ err: error }, 'clients of the old primary were not dropped'));
}

const interrupted = 'it was being taken back when the control plane ended; the events before tell why';

/** Before the commit point everything can be taken back: receivers start again, a demoted primary is writable again. */
export async function undo(
  context: Context,
  input: FailoverInput & { readonly error: unknown },
  signal: AbortSignal,
): Promise<void> {
  const { view, row } = await begin(context, { input, signal });
  if (row.outcome !== 'open') return;
  if (view.cluster.epoch > row.fromEpoch) throw new Error('the failover is committed: it goes on');
  // Whoever goes on with it must not commit on what was true before.
  const wasBegun = row.facts.takenBackAt !== undefined;
  if (!wasBegun) await record(context, row, 'taking back', { takenBackAt: context.clock.now() });
  const options = { epoch: view.cluster.epoch, timeoutMs: timeoutsMs.undo, signal };
  if (row.kind === 'failover') {
    const others = view.members.filter((member) => member.ordinal !== row.fromPrimary && isRunning(member));
    await Promise.allSettled(others.map((member) => sendTo(context, view, member.ordinal, { kind: 'thaw' }, options)));
  }
  if (row.kind === 'switchover' && view.cluster.rule && row.fromPrimary !== null) {
    const body: CommandBody = {
      kind: 'promote',
      k: view.cluster.rule.k,
      member: row.fromPrimary,
      timeoutMs: timeoutsMs.undo - 2000,
    };
    const detail = await sendTo(context, view, row.fromPrimary, body, options).then(
      () => `member ${row.fromPrimary} takes writes again`,
      (error: unknown) => {
        context.log.error({ err: error }, 'the old primary could not be made writable again; the loop goes on trying');
        return `member ${row.fromPrimary} does not take writes yet`;
      },
    );
    await record(context, row, 'taken back', {}, { detail });
  }
  const { error } = input;
  const isRefusal = error instanceof Refusal;
  const refusal = {
    code: isRefusal ? error.code : 'ABORTED',
    message:
      error instanceof Error ? error.message : wasBegun ? interrupted : 'a deadline passed before the commit point',
    ...(isRefusal ? { facts: error.facts } : {}),
  };
  await closeFailover(context.store, context.leader, row.id, isRefusal ? 'refused' : 'aborted', refusal);
  await emit(context, isRefusal ? 'failover.refused' : 'failover.aborted', view.cluster, refusal.message, {
    data: { failover: row.id, kind: row.kind, code: refusal.code, ...(isRefusal ? error.facts : {}) },
  });
  context.wakes.wake(view.cluster.id);
}
