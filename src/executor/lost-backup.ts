/**
 * A backup volume that was lost: it came back without our marker, at a launch or while the member runs. The data volume
 * is untouched, and mysqld goes on. Rules:
 * - Nothing is written to it until the controller says that this very directory may be taken: a disk that is not mounted
 *   looks like a new one, and only the controller remembers which directory it was.
 * - Only an empty one is taken. Its marker is the last thing that is written, so a crash leaves it lost or taken.
 * - The disk that was there before may come back by itself: then it is used again as it is.
 */
import type { Command, CommandResult } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { refreshBackups } from './backup.ts';
import { type MemberContext, requireVolumes } from './member-context.ts';
import { openMemberState, requireNewest } from './member-state.ts';
import {
  createMarker,
  findForeign,
  isEmptyVolume,
  openVolume,
  readMarker,
  type Volume,
  writeMarker,
} from './volumes.ts';

type Take = Extract<Command, { kind: 'takeBackupVolume' }>;

/** Looks whether the backup volume is ours, still or again. Throws the file system's errors. */
export async function watchBackupVolume(context: MemberContext): Promise<void> {
  const { volumes, plan, sandbox, log } = context;
  if (!volumes?.backup || !plan.backup || context.refusal) return;
  if (!context.isBackupLost) {
    if (!context.backupMarker || (await readMarker(volumes.backup)) !== null) return;
    log.error('the backup volume has lost its marker');
    context.isBackupLost = true;
    context.free = { ...context.free, backup: false };
    context.backupMarker = null;
    // The list is known, and empty: what was on the volume is not there.
    context.backups = [];
    context.archive.forget();
  }
  const backup = await openVolume(sandbox, 'backup', plan.backup);
  const marker = await readMarker(backup);
  if (marker && !findForeign(backup, marker, plan)) return use(context, backup);
  context.volumes = { data: volumes.data, backup };
  context.free = { ...context.free, backup: marker === null && (await isEmptyVolume(backup)) };
  context.changed();
}

/**
 * Marks the backup volume, also where this launch was refused because of it. Again: nothing. Throws VOLUME_NOT_OURS when
 * it is not the directory that was named, or not empty, or somebody's; STALE_LEADER, STALE_EPOCH as any command.
 */
export async function markBackupVolume(context: MemberContext, command: Take): Promise<void> {
  const { plan, sandbox } = context;
  if (!plan.backup) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
  const data = await openVolume(sandbox, 'data', plan.data);
  const marker = await readMarker(data);
  const foreign = marker && findForeign(data, marker, plan);
  if (!marker || foreign) throw foreign ?? new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker');
  requireNewest((context.refusal ? await openMemberState(data) : context.state).get(), command);
  const backup = await openVolume(sandbox, 'backup', plan.backup);
  const known = await readMarker(backup);
  if (known) {
    const refusal = findForeign(backup, known, plan);
    if (refusal) throw refusal;
    return;
  }
  if (backup.place !== command.place) {
    const facts = { found: backup.place, expected: command.place };
    throw new Refusal('VOLUME_NOT_OURS', 'another directory lies where the backup volume was to be taken', facts);
  }
  if (!(await isEmptyVolume(backup))) {
    throw new Refusal('VOLUME_NOT_OURS', 'the backup volume has no marker and is not empty');
  }
  const { incarnation, serverUuid, serverId } = marker;
  const filling = { incarnation, serverUuid, serverId, epoch: marker.epoch, fill: 'filled' } as const;
  await writeMarker(backup, createMarker(backup, plan, filling));
  context.log.warn({ place: backup.place }, 'a new backup volume was taken');
}

/** The `takeBackupVolume` command, once the volume is marked and the launch is not refused. */
export async function takeBackupVolume(context: MemberContext): Promise<CommandResult> {
  requireVolumes(context);
  if (!context.backupMarker) await use(context, await openVolume(context.sandbox, 'backup', context.plan.backup!));
  return { outcome: 'done' };
}

async function use(context: MemberContext, backup: Volume): Promise<void> {
  const { data } = requireVolumes(context);
  context.volumes = { data, backup };
  context.archive.forget();
  context.backupMarker = await readMarker(backup);
  context.isBackupLost = false;
  await refreshBackups(context, backup);
}

/** Throws VOLUME_LOST while the backup volume must not be written to. */
export function requireBackupVolume({ isBackupLost }: MemberContext): void {
  if (isBackupLost) throw new Refusal('VOLUME_LOST', 'the backup volume was lost, and none was taken yet');
}
