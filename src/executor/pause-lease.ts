/**
 * The pause of a switchover has a lease: when the control plane that asked for it is not heard of again, the paused
 * primary takes writes again by itself, in its own epoch. That is safe because the commit point of a switchover comes
 * after `seal`, which ends the lease: whoever takes writes again by itself was not sealed before, and refuses to be
 * afterwards, so nobody commits (docs/failover-safety.md, the order of a switchover). Both run in the order of commands.
 * A lease lives in this process alone and for this mysqld alone: what is started anew waits to be told.
 */
import type { Command } from '../channel/protocol.ts';
import { isGtidSubset, parseGtidSet } from '../cluster/gtid-set.ts';
import { setWritable } from '../mysql/read-only.ts';
import { startHeartbeat } from './heartbeat-loop.ts';
import type { RunningInstance } from './instance.ts';
import type { MemberContext } from './member-context.ts';

/** A failure of MySQL is tried again after this long, so often. */
const RETRY_MS = 1_000;
const TRIES = 10;

export interface PauseLease {
  readonly instance: RunningInstance;
  readonly epoch: number;
  /** By this executor's clock. */
  readonly endsAt: number;
  /** What the member holds since it is paused; null: not read yet. */
  gtidSet: string | null;
  timer: unknown;
}

/** Commands after which this member has another role, or none: what becomes of it is no more its own decision. */
export const endsPauseLease: ReadonlySet<Command['kind']> = new Set([
  'start',
  'stop',
  'fence',
  'follow',
  'freeze',
  'promote',
  'copy',
  'rebuild',
]);

/** Only who was made writable in this very epoch by a `promote`, or still has a lease of it, may become so by itself. */
export function mayLease(context: MemberContext, { epoch }: Pick<Command, 'epoch'>): boolean {
  const { promotedEpoch, pauseLease, instance } = context;
  return promotedEpoch === epoch || (pauseLease?.epoch === epoch && pauseLease.instance === instance);
}

export function beginPauseLease(context: MemberContext, what: Omit<PauseLease, 'gtidSet' | 'timer'>): PauseLease {
  endPauseLease(context);
  const lease: PauseLease = { ...what, gtidSet: null, timer: null };
  context.pauseLease = lease;
  arm(context, lease, { ms: Math.max(0, lease.endsAt - context.clock.now()), tries: TRIES });
  return lease;
}

/**
 * mysqld has ended in its pause, with no more than `gtidSet`: its lease was never used, since that it shall be writable
 * is stored before it is. Such a member needs no mysqld to be sealed.
 */
export function hasEndedPaused(context: MemberContext, lease: PauseLease | null, command: Sealing): boolean {
  if (!lease || lease.gtidSet === null || lease.epoch !== command.epoch) return false;
  if (context.instance !== null || context.dying !== null || context.state.get().wasWritable) return false;
  return isGtidSubset(parseGtidSet(lease.gtidSet), parseGtidSet(command.gtidSet));
}

type Sealing = Extract<Command, { kind: 'seal' }>;

export function endPauseLease(context: MemberContext): void {
  if (context.pauseLease) context.clock.clearTimeout(context.pauseLease.timer);
  context.pauseLease = null;
}

interface Attempt {
  readonly ms: number;
  readonly tries: number;
}

function arm(context: MemberContext, lease: PauseLease, { ms, tries }: Attempt): void {
  lease.timer = context.clock.setTimeout(() => {
    context
      .runExclusive((signal) => resume(context, lease, signal))
      .catch((error: unknown) => {
        if (context.pauseLease !== lease) return;
        context.log.error({ err: error }, 'the end of a pause: this member cannot take writes again yet');
        if (tries > 1) arm(context, lease, { ms: RETRY_MS, tries: tries - 1 });
      });
  }, ms);
}

/** Semi-sync, its voters and k are as before the pause, and the epoch row was acknowledged then. */
async function resume(context: MemberContext, lease: PauseLease, signal: AbortSignal): Promise<void> {
  if (context.pauseLease !== lease) return;
  const { instance, epoch } = lease;
  const isSame = context.instance === instance && context.phase === 'running' && context.state.get().epoch === epoch;
  if (!isSame) return endPauseLease(context);
  context.log.warn({ epoch }, 'nobody ended the pause of a switchover: this member takes writes again');
  await context.state.update({ wasWritable: true });
  signal.throwIfAborted();
  await setWritable(instance.admin);
  signal.throwIfAborted();
  endPauseLease(context);
  context.promotedEpoch = epoch;
  startHeartbeat(context, instance, { epoch });
  await context.refresh();
}
