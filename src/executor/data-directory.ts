/**
 * Filling a data directory so that a crash at any point leaves either none or a whole one (guarantee 4): the marker says
 * `filling` before the first file, files go to `data.filling`, are flushed and renamed, and the marker says `filled` last.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { LaunchPlan } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import type { Distribution } from '../mysql/distribution.ts';
import { copyTemplate, ensureTemplate } from '../mysql/template.ts';
import { isMissing, renameDurable } from './durable.ts';
import type { MemberPaths } from './member-files.ts';
import { createMarker, isEmptyVolume, type Marker, requireSamePlace, type Volume, writeMarker } from './volumes.ts';

export interface FillOptions {
  readonly plan: LaunchPlan;
  readonly data: Volume;
  readonly backup: Volume | null;
  readonly marker: Marker | null;
  readonly backupMarker: Marker | null;
  readonly paths: MemberPaths;
  readonly distribution: Distribution;
  readonly cacheDir: string;
  readonly epoch: number;
  readonly signal: AbortSignal;
}

/**
 * Fills an empty data volume from the template for the launch's incarnation and marks both volumes. Goes on where an
 * interrupted filling of the same incarnation stopped; answers the marker unchanged when it is filled already.
 * Throws VOLUME_NOT_OURS for an unmarked volume that is not empty, INCARNATION_MISMATCH for another incarnation.
 */
export async function initialiseDataDirectory(options: FillOptions): Promise<Marker> {
  const { plan, data, backup, marker, paths, signal } = options;
  if (marker && marker.incarnation !== plan.incarnation) {
    throw new Refusal('INCARNATION_MISMATCH', 'the data volume holds another incarnation', {
      found: marker.incarnation,
      expected: plan.incarnation,
    });
  }
  if (marker?.fill === 'filled') return marker;
  if (marker?.fill === 'copying') {
    throw new Refusal('REBUILD_UNFINISHED', 'the data volume is to hold a copy: an empty one would not be it');
  }
  if (marker?.fill === 'rebuilding') {
    throw new Refusal('REBUILD_UNFINISHED', 'a rebuild of the data volume was interrupted');
  }
  if (!marker) await requireSamePlace(data);
  if (!marker && !(await isEmptyVolume(data))) {
    throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker and is not empty');
  }
  const filling = {
    incarnation: plan.incarnation,
    serverUuid: plan.serverUuid,
    serverId: plan.serverId,
    epoch: options.epoch,
  };
  if (backup && !options.backupMarker) {
    if (!(await isEmptyVolume(backup))) {
      throw new Refusal('VOLUME_NOT_OURS', 'the backup volume has no marker and is not empty');
    }
    await writeMarker(backup, createMarker(backup, plan, { ...filling, fill: 'filled' }));
  }
  await writeMarker(data, createMarker(data, plan, { ...filling, fill: 'filling' }));
  signal.throwIfAborted();
  // The marker says that nothing here was ever used: what an interrupted filling left may go.
  await rm(paths.fillingDir, { recursive: true, force: true });
  await rm(paths.dataDir, { recursive: true, force: true });
  await copyTemplate(await ensureTemplate(options.distribution, options.cacheDir), paths.fillingDir);
  signal.throwIfAborted();
  await renameDurable(paths.fillingDir, paths.dataDir);
  const filled = createMarker(data, plan, { ...filling, fill: 'filled' });
  await writeMarker(data, filled);
  return filled;
}

/**
 * Throws DATA_DIR_DAMAGED when files are not there without which mysqld does not start, or (an undo log: measured)
 * starts without a word and leaves transactions half done. While it truncates an undo log that one has gone, and another
 * file says so.
 */
export async function checkDataDirectory(dataDir: string): Promise<void> {
  for (const name of ['ibdata1', 'mysql.ibd', 'mysql', 'undo_001', 'undo_002']) {
    if (await isThere(join(dataDir, name))) continue;
    if (name.startsWith('undo_') && (await isThere(join(dataDir, `undo_${Number(name.slice(5))}_trunc.log`)))) continue;
    throw new Refusal('DATA_DIR_DAMAGED', `the data directory has no ${name}`, { missing: name });
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (!isMissing(error)) throw error;
    return false;
  }
}
