/**
 * What becomes of a member that lost one of its volumes (cluster/lost-volume.ts judges). Data: another member is the
 * primary, so it is filled anew as a new incarnation; while it is the primary itself the failover rules come first. Backup:
 * the new volume is taken beside the data, which stay as they are; a first full backup follows (backup-keeping.ts).
 */
import { judgeVolume, type VolumeKnown, type VolumeVerdict } from '../cluster/lost-volume.ts';
import { noteVolume, openBackupVolume } from '../store/bundles.ts';
import { forgetInitialised } from '../store/members.ts';
import { isAutomationOn } from './automation.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, isHeld, isInPlace, isRunning, type MemberView } from './gather.ts';

const takeTimeoutMs = 15_000;

/** The data volume had been filled, and has come back without its marker; null: it has it, or nothing is known. */
export function judgeData({ member, bundle, status }: MemberView): VolumeVerdict | null {
  const found = status?.volumesFound?.data;
  if (!found || !bundle || member.initialisedAt === null) return null;
  return judgeVolume('data', found, bundle.bundle.data);
}

/** The same of the backup volume beside a data volume that is ours. */
export function judgeBackup({ bundle, status }: MemberView): VolumeVerdict | null {
  const { data, backup } = status?.volumesFound ?? {};
  const known = bundle?.bundle.backup;
  return data?.isMarked && backup && known ? judgeVolume('backup', backup, known) : null;
}

/** Remembers which directories have our marker: one that is lost later is known by it. */
export async function rememberVolumes(context: Context, { bundle, status, member }: MemberView): Promise<void> {
  if (!bundle || !status?.volumesFound || member.initialisedAt === null) return;
  for (const name of ['data', 'backup'] as const) {
    const found = status.volumesFound[name];
    const known: VolumeKnown | null = bundle.bundle[name];
    if (!found?.isMarked || !known) continue;
    const { place, isOwnDevice } = found;
    if (known.place === place && known.isOwnDevice === isOwnDevice && !known.isNew) continue;
    await noteVolume(context.store, context.leader, bundle.id, name, { place, isOwnDevice });
  }
}

/**
 * The very directory that was filled is empty, and there was no primary yet, so nothing was ever written to it. Another
 * disk is not taken: the one before it, with the same incarnation, could be back later.
 */
function mayBeginAgain({ cluster }: ClusterView, { bundle, status }: MemberView): boolean {
  const found = status?.volumesFound?.data;
  return cluster.epoch === 0 && found?.isEmpty === true && found.place === bundle?.bundle.data.place;
}

/** True when it is seen to, now or soon: the member is filled as in its first launch, which needs no automation. */
export async function beginAgain(context: Context, view: ClusterView, self: MemberView): Promise<boolean> {
  if (!mayBeginAgain(view, self)) return false;
  const { clusterId, ordinal } = self.member;
  if (!(await forgetInitialised(context.store, context.leader, { clusterId, ordinal }))) return true;
  context.log.warn(
    { clusterId, ordinal },
    'the data volume was emptied before there was a primary: it is filled again',
  );
  return true;
}

/** Takes the new backup volume, if that may be. The intent is stored first. True when the executor has taken it. */
export async function takeBackup(
  context: Context,
  view: ClusterView,
  self: MemberView,
  signal: AbortSignal,
): Promise<boolean> {
  const verdict = judgeBackup(self);
  const { bundle, launch, status } = self;
  if (verdict?.kind !== 'take' || !bundle || !launch) return false;
  // A person has asked for the new one.
  if (!bundle.bundle.backup?.isNew && !isAutomationOn(view.cluster, context.clock.now())) return false;
  const { place, isOwnDevice } = status!.volumesFound!.backup!;
  const isNews = await openBackupVolume(context.store, context.leader, bundle.id, { place, isOwnDevice });
  const { ordinal } = self;
  if (isNews) {
    const message = `${verdict.message}: it is taken anew, and a full backup follows`;
    await emit(context, 'backup.volume', view.cluster, message, { ordinal, data: { reservation: bundle.id } });
  }
  const options = { epoch: view.cluster.epoch, timeoutMs: takeTimeoutMs, signal };
  await context.executors.send(launch.taskId, { kind: 'takeBackupVolume', place }, options);
  return true;
}

/** The backup volume is to be replaced and its task has the old one: it is ended while all others are in their place. */
export function mustEndForReplacement(view: ClusterView, self: MemberView): boolean {
  const { replacing, isNew } = self.bundle?.bundle.backup ?? {};
  if (!replacing || isNew || !self.isLive) return false;
  if (view.failover || view.cluster.primary === self.ordinal || isHeld(view)) return false;
  const others = view.members.filter(({ ordinal }) => ordinal !== self.ordinal);
  return !isRunning(self) || others.every((member) => member.isConnected && isInPlace(view, member));
}

function describeReplacement(view: ClusterView, { bundle, isLive, ordinal }: MemberView): string | null {
  const { replacing, isNew } = bundle?.bundle.backup ?? {};
  const wanted = view.cluster.spec.volumes.backup;
  if (!replacing || !bundle || !wanted) return null;
  const what = 'its backup volume is being replaced';
  if (isNew && isLive) return `${what}: the new one is taken and filled`;
  if (view.cluster.primary === ordinal) return `${what}: it is the primary, hand over first with a switchover`;
  if (isLive) return `${what}: its task ends when all others are in their place`;
  return `${what}: waits for ${wanted.sizeMb} MB on a ${wanted.type} disk of ${bundle.hostname} beside that of the data`;
}

/** What a person should know of a lost volume, and what is waited for; null: nothing is lost. */
export function describeLoss(view: ClusterView, self: MemberView, now: number): string | null {
  const data = judgeData(self);
  const replacing = data ? null : describeReplacement(view, self);
  if (replacing) return replacing;
  const verdict = data ?? judgeBackup(self);
  if (!verdict) return null;
  const { ordinal } = self;
  if (verdict.kind === 'foreign') return `${verdict.message}; look whose it is, and mount the right disk or empty it`;
  const isPrimary = view.cluster.primary === ordinal;
  if (data && mayBeginAgain(view, self)) return `${data.message} before there was a primary: it is filled again`;
  if (data && (isPrimary || view.cluster.primary === null)) {
    const hope = view.members.length === 1 ? 'make another cluster from its backups' : 'the failover rules decide';
    return `${data.message}, and no other member is the primary: ${hope}, or mount its disk`;
  }
  const remedy = data
    ? `ask for a rebuild of member ${ordinal}`
    : `have another one made: selvedge replace-volume ${view.cluster.name} ${ordinal}`;
  if (verdict.kind === 'ask') return `${verdict.message}; mount it, or, when it is gone, ${remedy}`;
  if (isAutomationOn(view.cluster, now)) return `${verdict.message}: it is ${data ? 'filled anew' : 'taken anew'}`;
  const would = data ? 'filled anew' : 'taken, and filled by a full backup';
  return `${verdict.message}; automation is off, else it would be ${would}: switch it on, or ${remedy}`;
}
