/**
 * Filling the first member of a cluster that is a copy. Instead of `start` its executor gets `copy`: the holder of the
 * backup, and every member of the source whose archive may be read, are told to share with it first. All of it may run
 * twice; a share that was lost with its executor is made again with the next try. Of a cluster whose volumes are
 * retained the executors are launched first, which is the work of its own loop (lending.ts).
 */
import type { Donor } from '../channel/donor.ts';
import type { CommandBody } from '../channel/protocol.ts';
import { formatGtidSet, parseGtidSet, unionGtidSets } from '../cluster/gtid-set.ts';
import type { Origin } from '../cluster/recovery.ts';
import { Refusal, toErrorCode } from '../errors.ts';
import type { Context } from './context.ts';
import { type ClusterView, gather, type MemberView } from './gather.ts';
import { isLending } from './lending.ts';
import { shareSeen } from './sharing.ts';

/** Of the command's id: by it the API finds the progress. */
const copyPrefix = 'copy.';
const shareMs = 24 * 3600_000;
const copyTimeoutMs = 15_000;
/** Executors that have to be launched are waited for so long in each try; then who is there has to do. */
const launchMs = 60_000;

/** The data of a copy comes from elsewhere once: into its first member, before anything was ever in its volume. */
export function isToBeCopied({ cluster }: ClusterView, { ordinal, member }: MemberView): boolean {
  return cluster.origin !== null && ordinal === 0 && member.initialisedAt === null;
}

export interface CopyTry {
  /** The same in one try: the command is carried out once. */
  readonly id: string;
  /** When this try began. */
  readonly since: number;
  readonly initialise: boolean;
  readonly secrets: Extract<CommandBody, { kind: 'copy' }>['secrets'];
  readonly signal: AbortSignal;
}

/** Sends `copy` unless this try of it runs. Throws with the executor's code when it failed. */
export async function copyInto(
  context: Context,
  view: ClusterView,
  self: MemberView,
  { id: tryId, since, initialise, secrets, signal }: CopyTry,
): Promise<undefined> {
  const id = `${copyPrefix}${tryId}`;
  const origin = view.cluster.origin!;
  const { work } = self.status!;
  if (work?.commandId === id) {
    if (work.outcome !== 'failed') return undefined;
    throw new Refusal(toErrorCode(work.code), work.message ?? 'the copy failed');
  }
  if (context.clock.now() - since < launchMs && (await areLendersAwaited(context, origin))) return undefined;
  const { donors, acknowledged } = await shareAcknowledged(context, origin, signal);
  const { until } = origin;
  const within = formatGtidSet(unionGtidSets(parseGtidSet(origin.within), parseGtidSet(acknowledged)));
  const backup = { id: origin.backup.id, ordinal: origin.backup.ordinal };
  const body: CommandBody = { kind: 'copy', initialise, secrets, backup, donors: [...donors], until, within };
  const options = { epoch: view.cluster.epoch, timeoutMs: copyTimeoutMs, signal, id };
  context.log.info({ cluster: view.cluster.name, backup, until, donors: donors.length }, 'fills the first member');
  await context.executors.send(self.launch!.taskId, body, options);
  return undefined;
}

/** Of a retained source: those whose volumes are to be read are not all there yet. */
async function areLendersAwaited(context: Context, { clusterId }: Origin): Promise<boolean> {
  const source = await gather(context, clusterId);
  return source.members.some((member) => isLending(source, member) && !member.isConnected);
}

interface Shared {
  readonly donors: readonly Donor[];
  /** What the source's primary had executed when it answered; null: it did not say. */
  readonly acknowledged: string | null;
}

/** For a target NO_PRIMARY while the source's primary does not say what is acknowledged: its status may be too old. */
async function shareAcknowledged(context: Context, origin: Origin, signal: AbortSignal) {
  const { donors, acknowledged } = await share(context, origin, signal);
  if (origin.until.kind !== 'backup' && acknowledged === null) {
    throw new Refusal('NO_PRIMARY', `what ${origin.cluster} has acknowledged is not known now`);
  }
  return { donors, acknowledged: acknowledged ?? '' };
}

/**
 * Throws TRANSFER_BROKEN while the holder of the backup is not reached, HOLDER_AWAY when its volumes are retained; others
 * are left out.
 */
export async function share(context: Context, origin: Origin, signal: AbortSignal): Promise<Shared> {
  const source = await gather(context, origin.clusterId);
  const isWithLogs = origin.until.kind !== 'backup';
  const asked = source.members.filter(
    ({ ordinal, isConnected }) => isConnected && (ordinal === origin.backup.ordinal || isWithLogs),
  );
  const options = { expiresInMs: shareMs, maxBytesPerSec: origin.maxBytesPerSec };
  const donors: Donor[] = [];
  const isRetained = source.cluster.desired === 'retained';
  let acknowledged = isRetained ? (source.cluster.retained?.within ?? null) : null;
  for (const member of asked) {
    try {
      const { donor, holds } = await shareSeen(context, source, member, options, signal);
      donors.push(donor);
      if (!isRetained && member.ordinal === source.cluster.primary && member.status?.isWritable) acknowledged = holds;
    } catch (error) {
      signal.throwIfAborted();
      if (member.ordinal === origin.backup.ordinal) throw error;
      context.log.warn({ err: error, ordinal: member.ordinal }, 'a member does not share its archive');
    }
  }
  if (!donors.some(({ ordinal }) => ordinal === origin.backup.ordinal)) {
    const holder = `member ${origin.backup.ordinal} of ${origin.cluster}, which holds backup ${origin.backup.id}`;
    const [code, why] = isRetained
      ? (['HOLDER_AWAY', 'could not be launched: its agent does not offer its volumes'] as const)
      : (['TRANSFER_BROKEN', 'is not reached'] as const);
    throw new Refusal(code, `${holder}, ${why}`);
  }
  return { donors, acknowledged };
}
