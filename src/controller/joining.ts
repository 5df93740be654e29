/**
 * From a running, read-only instance to a member in its place: a replica that follows the primary of this epoch, or
 * the primary itself, writable again in its own epoch. Before a member may follow anyone it is compared: a transaction
 * that the primary lacks is errant, and MySQL itself would not notice.
 */
import type { Status } from '../channel/protocol.ts';
import {
  areGtidSetsEqual,
  formatGtidSet,
  isGtidSetEmpty,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from '../cluster/gtid-set.ts';
import type { MemberInput } from '../machines/member.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, gatherMember, isInPlace, isRunning, type MemberView, primaryOf } from './gather.ts';
import { openRebuildFor } from './rebuild-actors.ts';
import { lookUntil } from './wakes.ts';

const followTimeoutMs = 15_000;
const promoteTimeoutMs = 30_000;
const fenceTimeoutMs = 10_000;

export type Comparison =
  /** The primary has all that the member has, and still has in its logs all that the member lacks. */
  | { readonly kind: 'subset' }
  | { readonly kind: 'errant'; readonly gtids: string }
  | { readonly kind: 'purged'; readonly gtids: string };

/** Pure: may `member` follow `primary`? Both statuses must be of now; the primary's of the same time or later. */
export function compareWithPrimary(
  member: Pick<Status, 'gtidExecuted' | 'gtidReceived'>,
  primary: Pick<Status, 'gtidExecuted' | 'gtidPurged'>,
): Comparison {
  const own = unionGtidSets(parseGtidSet(member.gtidExecuted), parseGtidSet(member.gtidReceived));
  const errant = subtractGtidSets(own, parseGtidSet(primary.gtidExecuted));
  if (!isGtidSetEmpty(errant)) return { kind: 'errant', gtids: formatGtidSet(errant) };
  const missingPurged = subtractGtidSets(parseGtidSet(primary.gtidPurged), own);
  if (!isGtidSetEmpty(missingPurged)) return { kind: 'purged', gtids: formatGtidSet(missingPurged) };
  return { kind: 'subset' };
}

export async function joinCluster(
  context: Context,
  { input, signal }: { input: MemberInput; signal: AbortSignal },
): Promise<void> {
  const { clusterId, ordinal } = input;
  /** First status of the primary that is newer than the member's own: only then do their sets compare. */
  let comparedFrom: number | null = null;
  await lookUntil(context, clusterId, signal, async () => {
    const { view, self } = await gatherMember(context, clusterId, ordinal);
    if (!isRunning(self) || !self.isConnected) throw new Error('the instance stopped');
    if (view.failover || view.cluster.epoch === 0) return undefined;
    if (view.rebuilds.some((rebuild) => rebuild.ordinal === ordinal)) return undefined;
    const primary = primaryOf(view);
    if (!primary) return undefined;
    if (primary.ordinal === ordinal) return resumePrimary(context, view, self, signal);
    if (isInPlace(view, self)) return hasCaughtUp(self, primary) ? announceJoined(context, view, self) : undefined;
    if (self.status!.isWritable) return fenceLeftover(context, view, self, signal);
    if (!primary.status || !primary.isConnected || !primary.status.isWritable) return undefined;
    comparedFrom ??= context.clock.now();
    if (primary.status.at < self.status!.at && primary.status.at < comparedFrom) return undefined;
    const comparison = compareWithPrimary(self.status!, primary.status);
    // The member's own status may be newer than the primary's: look again before calling anything errant.
    if (comparison.kind === 'errant' && primary.status.at <= comparedFrom) return undefined;
    if (comparison.kind !== 'subset') return refill(context, view, self, comparison);
    await follow(context, view, self, primary, signal);
    return undefined;
  });
}

/** The same primary takes up again in its own epoch, after a restart or an undone change. */
async function resumePrimary(
  context: Context,
  view: ClusterView,
  self: MemberView,
  signal: AbortSignal,
): Promise<true | undefined> {
  if (isInPlace(view, self)) return true;
  const rule = view.cluster.rule;
  const isSameIncarnation = rule?.voters.some(
    (voter) => voter.ordinal === self.ordinal && voter.incarnation === self.status?.incarnation,
  );
  if (!rule || !isSameIncarnation) throw new Error('the primary is not the incarnation that was chosen');
  await context.executors.send(
    self.launch!.taskId,
    { kind: 'promote', k: rule.k, member: self.ordinal, timeoutMs: promoteTimeoutMs },
    { epoch: view.cluster.epoch, timeoutMs: promoteTimeoutMs + 5000, signal },
  );
  return undefined;
}

/**
 * Writable, and not the primary: it was silent while another one was chosen, and is back. What it may have taken since
 * was acknowledged to nobody, as its voters follow another epoch. It is ended and held; what it has too much is cut off
 * or it is filled anew, like after a crash.
 */
async function fenceLeftover(
  context: Context,
  view: ClusterView,
  self: MemberView,
  signal: AbortSignal,
): Promise<undefined> {
  const { cluster } = view;
  context.log.warn(
    { cluster: cluster.name, ordinal: self.ordinal },
    'a former primary is still writable: it is fenced',
  );
  const options = { epoch: cluster.epoch, timeoutMs: fenceTimeoutMs, signal };
  await context.executors.send(self.launch!.taskId, { kind: 'fence' }, options);
  return undefined;
}

async function follow(
  context: Context,
  view: ClusterView,
  self: MemberView,
  primary: MemberView,
  signal: AbortSignal,
): Promise<void> {
  const source = { host: primary.bundle!.ip, port: primary.bundle!.bundle.ports.mysql };
  await context.executors.send(
    self.launch!.taskId,
    { kind: 'follow', source },
    { epoch: view.cluster.epoch, timeoutMs: followTimeoutMs, signal },
  );
}

async function refill(
  context: Context,
  view: ClusterView,
  self: MemberView,
  comparison: Exclude<Comparison, { kind: 'subset' }>,
): Promise<undefined> {
  const why =
    comparison.kind === 'errant'
      ? `it has transactions that the primary lacks: ${comparison.gtids}`
      : `the primary no longer has logs that it needs: ${comparison.gtids}`;
  await openRebuildFor(context, view, self.ordinal, why);
  return undefined;
}

async function announceJoined(context: Context, view: ClusterView, self: MemberView): Promise<true> {
  await emit(context, 'member.joined', view.cluster, 'caught up and serves', { ordinal: self.ordinal });
  return true;
}

function hasCaughtUp(self: MemberView, primary: MemberView): boolean {
  if (!self.status || !primary.status) return false;
  if (self.status.replication?.receiver !== 'on') return false;
  const own = parseGtidSet(self.status.gtidExecuted);
  const wanted = parseGtidSet(primary.status.gtidExecuted);
  // Under a steady load the replica is always a little behind: its lag decides then.
  return (
    areGtidSetsEqual(own, wanted) ||
    isGtidSubset(wanted, own) ||
    (self.status.lagMs !== null && self.status.lagMs < 2000)
  );
}
