/**
 * What a running member is told about replication. Every function looks before it acts and may run twice.
 * Rules (docs/failover-safety.md): a relay log is never thrown away before the commit point; an instance is made
 * writable here alone, after semi-sync stands, after `wasWritable` is durable, and after its epoch row is acknowledged;
 * again in the same epoch, after a pause that nobody ended, by pause-lease.ts.
 */
import { join } from 'node:path';
import type { Command, CommandResult } from '../channel/protocol.ts';
import { delay } from '../clock.ts';
import { Refusal } from '../errors.ts';
import type { Session } from '../mysql/connection.ts';
import { readGtids, subtractGtids } from '../mysql/gtid.ts';
import { writeEpoch } from '../mysql/heartbeat.ts';
import { readLongestTransaction } from '../mysql/long-transaction.ts';
import { pauseWrites } from '../mysql/pause-writes.ts';
import * as readOnly from '../mysql/read-only.ts';
import { flushRelayLogs, setRelayLogFlush } from '../mysql/relay-log.ts';
import {
  pointReceiver,
  readReplication,
  resetReplication,
  startIdleApplier,
  startReceiver,
  startReplication,
  stopReceiver,
} from '../mysql/replication.ts';
import { readSemiSync, setReplica, setSource } from '../mysql/semi-sync.ts';
import { commitBarrier, startHeartbeat, stopHeartbeat } from './heartbeat-loop.ts';
import { openSession, type RunningInstance } from './instance.ts';
import { type MemberContext, requireInstance } from './member-context.ts';
import { passOverHeartbeats } from './pass-over.ts';
import { beginPauseLease, endPauseLease, hasEndedPaused, mayLease } from './pause-lease.ts';
import { freeStuckCommits } from './stuck-commits.ts';

type Of<K extends Command['kind']> = Extract<Command, { kind: K }>;

const FREEZE_LOCK_WAIT_SECONDS = 5;
const DROP_TIMEOUT_MS = 2_000;
const MAX_POLL_MS = 20;

/** What this member holds: the facts that freeze, demote, catchUp and start answer with. */
export async function answerHoldings(session: Session): Promise<CommandResult> {
  const [gtids, replication] = await Promise.all([readGtids(session), readReplication(session)]);
  return {
    outcome: 'done',
    gtidExecuted: gtids.executed,
    gtidReceived: replication?.received ?? '',
    isApplierRunning: replication?.applier === 'on',
  };
}

/** Points the receiver at the primary of this epoch, keeping the relay log. Refuses on a writable member. */
export async function follow(context: MemberContext, { source }: Of<'follow'>): Promise<CommandResult> {
  const { admin } = requireInstance(context);
  const access = await readOnly.readAccess(admin);
  if (!access.isReadOnly) throw new Refusal('IS_WRITABLE', 'a writable member follows nobody: demote it first');
  await withdraw(context, admin);
  // Off first: with semi-sync on as a source nothing here would wait, but a later promotion must set its own k.
  await setSource(admin, 0);
  await pointReceiver(admin, sourceOf(context, source));
  context.following = source;
  context.isFrozen = false;
  return answerHoldings(admin);
}

/** After a restart that nobody asked for: as `follow` left it, unless a failover froze the receiver meanwhile. */
export async function resumeReplication(context: MemberContext): Promise<void> {
  const { admin } = context.instance ?? {};
  if (!admin || !context.following || !(await readReplication(admin))) return;
  // Not as a voter: it becomes one when the controller has seen it caught up.
  context.isVoter = false;
  if (context.isFrozen) await admin.query('START REPLICA SQL_THREAD');
  else await startReplication(admin);
}

function sourceOf(context: MemberContext, source: { readonly host: string; readonly port: number }) {
  if (!context.secrets) throw new Refusal('NOT_RUNNING', 'no start command came in this launch');
  const { secrets, paths, plan } = context;
  return { ...source, ...secrets.replication, caFile: join(paths.runDir, 'ca.pem'), from: plan.address };
}

/** Stops the receiver, lets the applier run: this member acknowledges nothing more. */
export async function freeze(context: MemberContext): Promise<CommandResult> {
  const { admin } = requireInstance(context);
  context.isFrozen = true;
  await stopReceiver(admin);
  const answer = await answerHoldings(admin);
  if (answer.outcome === 'done' && answer.isApplierRunning) return answer;
  // Since a restart it waits for a primary to be compared with. Without one nobody could follow: it applies what it has.
  await startIdleApplier(admin);
  return answerHoldings(admin);
}

/** Takes a freeze back. */
export async function thaw(context: MemberContext): Promise<CommandResult> {
  const { admin } = requireInstance(context);
  await startReceiver(admin);
  context.isFrozen = false;
  return answerHoldings(admin);
}

/** Waits until `gtidSet` is executed; TIMED_OUT names what is missing. */
export async function catchUp(
  context: MemberContext,
  command: Of<'catchUp'>,
  signal: AbortSignal,
): Promise<CommandResult> {
  const { admin } = requireInstance(context);
  await waitExecuted(context, admin, { set: command.gtidSet, timeoutMs: command.timeoutMs, signal });
  return answerHoldings(admin);
}

/** Asks again and again rather than with one blocking statement: the session stays free for a freeze or promotion. */
async function waitExecuted(
  context: MemberContext,
  session: Session,
  wait: { readonly set: string; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const { clock } = context;
  const deadline = clock.now() + wait.timeoutMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(MAX_POLL_MS, pauseMs * 2)) {
    const { executed } = await readGtids(session);
    const missing = await subtractGtids(session, wait.set, executed);
    if (missing === '') return;
    if (clock.now() >= deadline) {
      const message = `not everything was applied within ${wait.timeoutMs} ms: ${missing} is missing`;
      throw new Refusal('TIMED_OUT', message, { missing });
    }
    await delay(clock, pauseMs, wait.signal);
  }
}

/** Becomes, or goes on as, the primary of the command's epoch. Answers when it is writable. */
export async function promote(
  context: MemberContext,
  command: Of<'promote'>,
  signal: AbortSignal,
): Promise<CommandResult> {
  const { clock } = context;
  const instance = requireInstance(context);
  const { admin } = instance;
  const deadline = clock.now() + command.timeoutMs;
  const isDone = context.promotedEpoch === command.epoch && !(await readOnly.readAccess(admin)).isReadOnly;
  if (isDone && (await readSemiSync(admin)).k === command.k) return answerHoldings(admin);
  await stopReceiver(admin);
  const replication = await readReplication(admin);
  if (replication) {
    const timeoutMs = Math.max(0, deadline - clock.now());
    await waitExecuted(context, admin, { set: replication.received, timeoutMs, signal });
  }
  context.isVoter = false;
  await setReplica(admin, false);
  if (command.heartbeats !== undefined) {
    await context.state.update({ wasWritable: true });
    await passOverHeartbeats(context, instance, { heartbeats: command.heartbeats, epoch: command.epoch });
  }
  await setSource(admin, command.k);
  await context.state.update({ wasWritable: true });
  signal.throwIfAborted();
  if ((await readOnly.readAccess(admin)).isReadOnly) await readOnly.openForOwnWrites(admin);
  await commitEpoch(context, instance, command, deadline);
  signal.throwIfAborted();
  await readOnly.setWritable(admin);
  signal.throwIfAborted();
  context.promotedEpoch = command.epoch;
  context.following = null;
  context.isFrozen = false;
  startHeartbeat(context, instance, { epoch: command.epoch, member: command.member });
  const answer = await answerHoldings(admin);
  if (replication) dropChannel(context, instance);
  return answer;
}

/**
 * The epoch row is committed on the heartbeat's session: without enough voters its commit waits, and a repeated
 * promotion waits for the same one.
 */
async function commitEpoch(
  context: MemberContext,
  instance: RunningInstance,
  command: Of<'promote'>,
  deadline: number,
): Promise<void> {
  if (context.epochCommit?.epoch !== command.epoch) {
    const row = {
      epoch: command.epoch,
      member: command.member,
      serverUuid: context.marker?.serverUuid ?? context.plan.serverUuid,
      atMs: context.clock.now(),
    };
    // The driver's own deadline would close the session: an hour stands for "until it is acknowledged or fenced".
    const promise = writeEpoch(instance.beat, row, 3_600_000);
    const forget = () => {
      if (context.epochCommit?.promise === promise) context.epochCommit = null;
    };
    context.epochCommit = { epoch: command.epoch, promise };
    freeStuckCommits(context, instance, { beat: row, pending: promise });
    promise.then(forget, forget);
  }
  await within(context, context.epochCommit?.promise ?? Promise.resolve(), deadline, 'the epoch row');
}

/** Rejects with TIMED_OUT at `deadline`; the work itself goes on. */
async function within(context: MemberContext, work: Promise<void>, deadline: number, what: string): Promise<void> {
  const { clock } = context;
  let timer: unknown;
  const timeout = new Promise<never>((_, reject) => {
    const late = () => reject(new Refusal('TIMED_OUT', `${what} is not acknowledged by enough voters yet`));
    timer = clock.setTimeout(late, Math.max(0, deadline - clock.now()));
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clock.clearTimeout(timer);
  }
}

/** RESET REPLICA ALL, after the answer: nobody waits for it. */
function dropChannel(context: MemberContext, instance: RunningInstance): void {
  context
    .runExclusive(async () => {
      if (context.instance !== instance || context.promotedEpoch === null) return;
      await resetReplication(instance.admin);
      context.changed();
    })
    .catch((error: unknown) => context.log.warn({ err: error }, 'the old replication channel stays'));
}

/**
 * Switchover's first step: nobody writes any more. Running writers get until `maxPauseMs` and are killed then; what
 * does not end even so leaves the member writable.
 */
export async function demote(context: MemberContext, command: Of<'demote'>): Promise<CommandResult> {
  const instance = requireInstance(context);
  const { promotedEpoch, clock } = context;
  const { maxPauseMs, killAfterMs, leaseMs } = command;
  const leaseEndsAt = leaseMs !== undefined && mayLease(context, command) ? clock.now() + leaseMs : null;
  endPauseLease(context);
  await requireNoLongTransaction(instance, command.transactionMaxMs);
  const killer = await openSession({ socketPath: context.paths.socket, clock });
  await stopHeartbeat(context);
  try {
    const { outcome, killed } = await pauseWrites(instance.admin, { clock, maxPauseMs, killAfterMs, killer });
    if (killed.length > 0)
      context.log.warn({ killed: killed.length }, 'sessions that held up a switchover were killed');
    if (outcome === 'blocked') {
      const message = `a write did not end within ${maxPauseMs} ms, nor when it was killed; the member is still writable`;
      throw new Refusal('TIMED_OUT', message, { killed: killed.length });
    }
    await withdraw(context, instance.admin);
  } catch (error) {
    if (promotedEpoch !== null && context.promotedEpoch === promotedEpoch && context.instance === instance) {
      startHeartbeat(context, instance, { epoch: promotedEpoch });
    }
    throw error;
  } finally {
    await killer.close();
  }
  if (leaseEndsAt === null) return answerHoldings(instance.admin);
  const lease = beginPauseLease(context, { instance, epoch: command.epoch, endsAt: leaseEndsAt });
  const answer = await answerHoldings(instance.admin);
  if (answer.outcome !== 'done') return answer;
  lease.gtidSet = answer.gtidExecuted ?? null;
  return { ...answer, hasLease: true };
}

/** The switchover goes on to its commit point: whatever becomes of the control plane, writes stay paused here. */
export async function seal(context: MemberContext, command: Of<'seal'>): Promise<CommandResult> {
  const { gtidSet } = command;
  const lease = context.pauseLease;
  endPauseLease(context);
  if (hasEndedPaused(context, lease, command)) return { outcome: 'done' };
  const { admin } = requireInstance(context);
  const [access, gtids] = await Promise.all([readOnly.readAccess(admin), readGtids(admin)]);
  const more = await subtractGtids(admin, gtids.executed, gtidSet);
  if (access.isSuperReadOnly && more === '') return answerHoldings(admin);
  const why = access.isSuperReadOnly ? `it holds more than when it was paused: ${more}` : 'it takes writes again';
  throw new Refusal('PAUSE_ENDED', `the pause of this member ended: ${why}`, { more });
}

/** Before anything is touched: who has written for long would be ended, and had better end by itself. */
async function requireNoLongTransaction({ admin }: RunningInstance, maxMs: number | undefined): Promise<void> {
  if (maxMs === undefined) return;
  const longest = await readLongestTransaction(admin, maxMs);
  if (!longest) return;
  const message = `session ${longest.session} of ${longest.user} is in a transaction that writes, for ${longest.forMs} ms`;
  throw new Refusal('LONG_TRANSACTION', message, { ...longest });
}

/** Read-only for everybody, and known to be so. No commit waits when super_read_only stands. */
async function withdraw(context: MemberContext, admin: Session): Promise<void> {
  await stopHeartbeat(context);
  const outcome = await readOnly.setReadOnly(admin, FREEZE_LOCK_WAIT_SECONDS);
  if (outcome === 'blocked') throw new Refusal('IS_WRITABLE', 'a commit of this member still waits');
  context.promotedEpoch = null;
  await context.state.update({ wasWritable: false });
}

/** Drops the clients that still hang on. Answers done also when a dropped one's commit still waits. */
export async function dropClients(context: MemberContext): Promise<CommandResult> {
  const { admin } = requireInstance(context);
  await readOnly.dropClients(admin, context.clock, DROP_TIMEOUT_MS);
  return { outcome: 'done' };
}

/** mysqld flushes first, then what it had not flushed before is: nothing comes in between. */
async function setAckFlush(
  context: MemberContext,
  admin: Session,
  ackFlush: Of<'setVoter'>['ackFlush'],
): Promise<void> {
  if (ackFlush === undefined) return;
  context.ackFlush = ackFlush;
  if (ackFlush === 'os') {
    context.areRelayLogsFlushed = false;
    return setRelayLogFlush(admin, 'os');
  }
  await setRelayLogFlush(admin, 'disk');
  if (context.areRelayLogsFlushed) return;
  await flushRelayLogs(context.paths.dataDir);
  if (context.instance?.admin === admin) context.areRelayLogsFlushed = true;
}

export async function setVoter(context: MemberContext, command: Of<'setVoter'>): Promise<CommandResult> {
  const { admin } = requireInstance(context);
  await setAckFlush(context, admin, command.ackFlush);
  await setReplica(admin, command.isVoter);
  context.isVoter = command.isVoter;
  return answerHoldings(admin);
}

/** Changes k on the primary and commits a transaction under it. */
export async function setAcknowledgements(
  context: MemberContext,
  command: Of<'setAcknowledgements'>,
): Promise<CommandResult> {
  const instance = requireInstance(context);
  if (context.promotedEpoch !== command.epoch) {
    throw new Refusal('NOT_PRIMARY', `this member is not the primary of epoch ${command.epoch}`);
  }
  await setSource(instance.admin, command.k);
  const deadline = context.clock.now() + command.timeoutMs;
  await within(context, commitBarrier(context), deadline, 'the barrier');
  return answerHoldings(instance.admin);
}
