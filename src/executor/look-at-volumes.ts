/** What an executor finds on its volumes: whose they are, and whether one of the two was lost. Nothing is written. */
import type { LaunchPlan } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { createTransientState, type MemberStateFile, openMemberState } from './member-state.ts';
import { findForeign, isEmptyVolume, type Marker, openVolume, readMarker, type Volume } from './volumes.ts';

export interface FoundVolumes {
  readonly volumes: { readonly data: Volume; readonly backup: Volume | null } | null;
  readonly refusal: Refusal | null;
  readonly marker: Marker | null;
  readonly backupMarker: Marker | null;
  readonly state: MemberStateFile;
  /** The data volume is ours, and the backup volume beside it has no marker. */
  readonly isBackupLost: boolean;
  /** Unmarked, with nothing in it. */
  readonly free: { readonly data: boolean; readonly backup: boolean };
}

/** Never throws: volumes that are not ours, or cannot be read, are told as `refusal`. */
export async function lookAtVolumes({
  plan,
  sandbox,
}: {
  readonly plan: LaunchPlan;
  readonly sandbox: string;
}): Promise<FoundVolumes> {
  const nothing = {
    ...{ volumes: null, marker: null, backupMarker: null, state: createTransientState() },
    ...{ isBackupLost: false, free: { data: false, backup: false } },
  };
  try {
    const data = await openVolume(sandbox, 'data', plan.data);
    const backup = plan.backup && (await openVolume(sandbox, 'backup', plan.backup));
    const marker = await readMarker(data);
    const backupMarker = backup && (await readMarker(backup));
    let refusal = marker && findForeign(data, marker, plan);
    if (!refusal && backup && backupMarker) refusal = findForeign(backup, backupMarker, plan);
    const isBackupLost = !refusal && marker !== null && backup !== null && backupMarker === null;
    if (isBackupLost) {
      refusal = new Refusal('VOLUME_NOT_OURS', 'the backup volume has no marker although the data volume has one');
    }
    const state = refusal ? createTransientState() : await openMemberState(data);
    const free = {
      data: marker === null && (await isEmptyVolume(data)),
      backup: backup !== null && backupMarker === null && (await isEmptyVolume(backup)),
    };
    return { volumes: { data, backup }, refusal, marker, backupMarker, state, isBackupLost, free };
  } catch (error) {
    if (error instanceof Refusal) return { ...nothing, refusal: error };
    const message = `the volumes cannot be read: ${(error as Error).message}`;
    return { ...nothing, refusal: new Refusal('VOLUME_NOT_OURS', message) };
  }
}
