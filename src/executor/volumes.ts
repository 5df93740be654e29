/**
 * Whose volumes these are. Rules (guarantee 4: a volume with data is never initialised, overwritten or destroyed as a
 * reaction to a state):
 * - A volume is ours when its marker names this installation, cluster, member and kind.
 * - An unmarked volume is taken only when it is empty and a command says that this launch may fill it. The control
 *   plane says so only while the directory is the one that the member's first executor saw (its place).
 * - The marker remembers whether the volume was a device of its own when it was first taken. One that was and is not
 *   any more is a disk that did not come back. Local agents make `path` and `mount` disks out of plain directories,
 *   which share their parent's device from the start: those are not refused.
 */
import { readdir, realpath, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { LaunchPlan } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { readIfThere, writeDurable } from './durable.ts';

export const MARKER_VERSION = 1;
const MARKER = 'selvedge.json';

const markerSchema = z.object({
  version: z.literal(MARKER_VERSION),
  installation: z.string(),
  cluster: z.string(),
  clusterName: z.string(),
  ordinal: z.number().int(),
  kind: z.enum(['data', 'backup']),
  persistenceId: z.string(),
  /** On a backup volume: that of the data volume beside it when it was marked. */
  incarnation: z.string(),
  serverUuid: z.string(),
  serverId: z.number().int(),
  /** Highest known when the marker was written; the state file is newer. */
  epoch: z.number().int(),
  /** `filling`, `copying`, `rebuilding`: the data directory is not whole. A backup volume is always `filled`. */
  fill: z.enum(['filling', 'copying', 'rebuilding', 'filled']),
  /** Device of the volume differed from that of its parent directory. */
  isOwnDevice: z.boolean(),
  /**
   * A trim that is not over (executor/trim.ts): what the member becomes, and how far it came. saving: the log is whole;
   * cutting: the tail is saved; cut: the log is short, mysqld may have been started under the new identity.
   */
  trim: z
    .object({
      incarnation: z.string(),
      serverUuid: z.string(),
      serverId: z.number().int(),
      phase: z.enum(['saving', 'cutting', 'cut']),
      binaryLog: z.string().regex(/^binlog\.\d{6,10}$/),
      position: z.number().int().min(4),
      gtidSet: z.string(),
    })
    .nullish(),
});
export type Marker = z.infer<typeof markerSchema>;

export interface Volume {
  readonly kind: 'data' | 'backup';
  /** Real path, links resolved. */
  readonly path: string;
  readonly diskType: 'root' | 'path' | 'mount';
  readonly sizeMb: number;
  readonly persistenceId: string;
  readonly isOwnDevice: boolean;
  /** Inode and birth of the directory. Devices are numbered anew at each boot, and an inode alone is soon met again. */
  readonly place: string;
}

export type VolumePlan = LaunchPlan['data'];

/** Finds a volume in the sandbox. Throws VOLUME_NOT_OURS when it is not there. */
export async function openVolume(sandbox: string, kind: 'data' | 'backup', plan: VolumePlan): Promise<Volume> {
  if (plan.containerPath.includes('/') || plan.containerPath === '' || plan.containerPath.startsWith('.')) {
    throw new Refusal('VOLUME_NOT_OURS', `the ${kind} volume's container path is not a plain name`);
  }
  const inSandbox = join(sandbox, plan.containerPath);
  try {
    const path = await realpath(inSandbox);
    const [own, parent] = await Promise.all([stat(path, { bigint: true }), stat(dirname(path), { bigint: true })]);
    if (!own.isDirectory()) throw new Error(`${path} is not a directory`);
    const { diskType, sizeMb, persistenceId } = plan;
    const place = `${own.ino}.${own.birthtimeNs}`;
    return { kind, path, diskType, sizeMb, persistenceId, isOwnDevice: own.dev !== parent.dev, place };
  } catch (error) {
    const message = `the ${kind} volume is not in the sandbox: ${(error as Error).message}`;
    throw new Refusal('VOLUME_NOT_OURS', message, { kind, persistenceId: plan.persistenceId });
  }
}

/** Throws VOLUME_NOT_OURS when another directory lies in the volume's path by now. */
export async function requireSamePlace(volume: Volume): Promise<void> {
  const { ino, birthtimeNs } = await stat(volume.path, { bigint: true });
  const found = `${ino}.${birthtimeNs}`;
  if (found === volume.place) return;
  const message = `another directory lies where the ${volume.kind} volume was: its disk may have gone away`;
  throw new Refusal('VOLUME_NOT_OURS', message, { kind: volume.kind, found, expected: volume.place });
}

/** The marker of a volume; null when there is none. Throws VOLUME_NOT_OURS when it cannot be read. */
export async function readMarker(volume: Volume): Promise<Marker | null> {
  const text = await readIfThere(join(volume.path, MARKER));
  if (text === null) return null;
  try {
    return markerSchema.parse(JSON.parse(text));
  } catch {
    throw new Refusal('VOLUME_NOT_OURS', `the marker of the ${volume.kind} volume cannot be read`, {
      kind: volume.kind,
    });
  }
}

/** Writes the marker, durable. */
export async function writeMarker(volume: Volume, marker: Marker): Promise<void> {
  await writeDurable(join(volume.path, MARKER), `${JSON.stringify(markerSchema.parse(marker), null, 2)}\n`);
}

/** A marker of this volume for a launch. */
export function createMarker(
  volume: Volume,
  plan: LaunchPlan,
  filling: Pick<Marker, 'incarnation' | 'serverUuid' | 'serverId' | 'epoch' | 'fill'>,
): Marker {
  return {
    version: MARKER_VERSION,
    installation: plan.installation,
    cluster: plan.cluster,
    clusterName: plan.clusterName,
    ordinal: plan.ordinal,
    kind: volume.kind,
    persistenceId: volume.persistenceId,
    isOwnDevice: volume.isOwnDevice,
    ...filling,
  };
}

/** Why a marked volume is not this member's, or null. The incarnation is not compared here. */
export function findForeign(volume: Volume, marker: Marker, plan: LaunchPlan): Refusal | null {
  const expected = {
    installation: plan.installation,
    cluster: plan.cluster,
    ordinal: plan.ordinal,
    kind: volume.kind,
    persistenceId: volume.persistenceId,
  };
  for (const [key, value] of Object.entries(expected)) {
    const found = marker[key as keyof typeof expected];
    if (found === value) continue;
    const message = `the ${volume.kind} volume belongs elsewhere: its ${key} is ${found}, not ${value}`;
    return new Refusal('VOLUME_NOT_OURS', message, { kind: volume.kind, key, found, expected: value });
  }
  if (marker.isOwnDevice && !volume.isOwnDevice) {
    const message = `the ${volume.kind} volume was a disk of its own and is not mounted now`;
    return new Refusal('VOLUME_NOT_OURS', message, { kind: volume.kind });
  }
  return null;
}

/** Nothing in it but what a fresh file system has. */
export async function isEmptyVolume(volume: Volume): Promise<boolean> {
  const names = await readdir(volume.path);
  return names.every((name) => name === 'lost+found' || name === `${MARKER}.new`);
}

/**
 * Total and used megabytes. A volume that is a device of its own, or a mount disk, is asked for its file system. Others
 * share a file system: the total is what was reserved, used is what our files take on disk.
 */
export async function measureVolume(volume: Volume): Promise<{ totalMb: number; usedMb: number }> {
  const fs = await statfs(volume.path);
  const toMb = (blocks: number) => Math.round((blocks * fs.bsize) / 1048576);
  if (volume.isOwnDevice) return { totalMb: toMb(fs.blocks), usedMb: toMb(fs.blocks - fs.bfree) };
  const usedMb = Math.round((await measureDirectory(volume.path)) / 1048576);
  // Others on a shared disk may have taken what was promised.
  return { totalMb: Math.min(volume.sizeMb, usedMb + toMb(fs.bavail)), usedMb };
}

/** Bytes on disk below a directory. Files that vanish while it is read count as nothing; links are not followed. */
export async function measureDirectory(path: string): Promise<number> {
  const { lstat } = await import('node:fs/promises');
  let bytes = 0;
  const open = [path];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const entries = await readdir(at, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const child = join(at, entry.name);
      if (entry.isDirectory()) open.push(child);
      else
        bytes += await lstat(child).then(
          (found) => found.blocks * 512,
          () => 0,
        );
    }
  }
  return bytes;
}
