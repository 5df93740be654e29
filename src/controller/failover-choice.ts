/** Who becomes the primary, and that it has executed all that it must have. */
import type { CommandBody } from '../channel/protocol.ts';
import { choosePrimary } from '../cluster/choose-primary.ts';
import { findHeir, isNever, preferred } from '../cluster/preferences.ts';
import type { Preferences } from '../cluster/types.ts';
import { countedVoters } from '../cluster/voters.ts';
import { Refusal } from '../errors.ts';
import type { FailoverRow } from '../store/rows.ts';
import type { Context } from './context.ts';
import { seal } from './failover-demote.ts';
import { type Args, begin, pauseRestMs, type Reached, record, sendTo, timeoutsMs, wantedOf } from './failover-work.ts';
import { defaultMaxPauseMs } from './plan.ts';
import { knownOfPrimary } from './post-mortem.ts';

export async function choose(context: Context, args: Args): Promise<void> {
  const { view, row } = await begin(context, args);
  const { facts } = row;
  const reached = facts.reached ?? [];
  if (row.kind !== 'failover') {
    // The first member of a copy holds its data; the others hold nothing.
    const filled = row.kind === 'first' && view.cluster.origin !== null ? 0 : null;
    const chosen = row.candidate ?? filled ?? bestReplica(row, reached, view.cluster.preferences);
    return record(context, row, 'chosen', { chosen }, { toPrimary: chosen });
  }
  const choice = choosePrimary({
    rule: view.cluster.rule!,
    reached,
    ...knownOfPrimary(context, view, row),
    candidate: row.candidate ?? undefined,
    preferences: preferred(view.cluster.preferences),
    acceptedLoss: row.options.acceptedLoss,
  });
  if (choice.kind === 'refused') throw new Refusal(choice.code, choice.message, choice.facts);
  const detail = choice.warnings.map(({ message }) => message).join('; ');
  // A person who accepts a loss has read who is promoted.
  const isAccepted = choice.warnings.some(({ kind }) => kind === 'DataLossAccepted');
  if (row.candidate !== null || isAccepted || !isNever(view.cluster.preferences, choice.ordinal)) {
    return record(context, row, 'chosen', { chosen: choice.ordinal }, { toPrimary: choice.ordinal, detail });
  }
  const best = reached.find(({ ordinal }) => ordinal === choice.ordinal)!;
  const heir = findHeir(countedVoters(view.cluster.rule!, reached), best, view.cluster.preferences);
  if (heir === null) throw new Refusal('NO_CANDIDATE', 'only members that shall never be the primary were reached');
  await record(context, row, 'chosen', { chosen: heir, catchUpFrom: choice.ordinal }, { toPrimary: heir, detail });
}

/** The lowest ordinal that applies transactions: in a switchover every ready replica catches up before it takes over. */
function bestReplica(row: FailoverRow, reached: readonly Reached[], preferences: Preferences): number {
  const replicas = reached.filter(({ ordinal }) => row.kind === 'first' || ordinal !== row.fromPrimary);
  const running = replicas.filter(({ isApplierRunning }) => isApplierRunning);
  const order = preferred(preferences);
  const rank = ({ ordinal }: Reached) => (order.includes(ordinal) ? order.indexOf(ordinal) : order.length + ordinal);
  const allowed = running.filter(({ ordinal }) => !isNever(preferences, ordinal));
  const best = allowed.sort((a, b) => rank(a) - rank(b))[0];
  if (!best) throw new Refusal('NO_CANDIDATE', 'no replica applies transactions');
  return best.ordinal;
}

/** The candidate has executed all that it received; in a switchover all that the old primary has. */
export async function catchUp(context: Context, args: Args): Promise<void> {
  const { view, row, signal } = await begin(context, args);
  const { catchUpFrom } = row.facts;
  const chosen = row.facts.chosen!;
  const { epoch } = view.cluster;
  if (catchUpFrom !== undefined) {
    const best = view.members.find(({ ordinal }) => ordinal === catchUpFrom)?.bundle;
    if (!best) throw new Error(`member ${catchUpFrom} has no bundle`);
    const source = { host: best.ip, port: best.bundle.ports.mysql };
    await sendTo(context, view, chosen, { kind: 'follow', source }, { epoch, timeoutMs: timeoutsMs.follow, signal });
  }
  const answerMs = 2000;
  const timeoutMs = row.kind === 'switchover' ? pauseRestMs(context, row) : timeoutsMs.catchUp - answerMs;
  const wait: CommandBody = { kind: 'catchUp', gtidSet: wantedOf(row), timeoutMs };
  const options = { epoch, timeoutMs: timeoutMs + answerMs, signal };
  await sendTo(context, view, chosen, wait, options).catch((error: unknown) => {
    if (row.kind !== 'switchover' || !(error instanceof Refusal) || error.code !== 'TIMED_OUT') throw error;
    const { maxPauseMs = defaultMaxPauseMs } = row.options;
    const message = `member ${chosen} did not catch up within the pause of ${maxPauseMs} ms: ${error.message}`;
    throw new Refusal('TIMED_OUT', message, error.facts);
  });
  if (catchUpFrom !== undefined) {
    await sendTo(context, view, chosen, { kind: 'freeze' }, { epoch, timeoutMs: timeoutsMs.freeze, signal });
  }
  if (row.facts.hasLease) await seal(context, { view, row, signal });
  await record(context, row, 'caught up', { caughtUpAt: context.clock.now() });
}
