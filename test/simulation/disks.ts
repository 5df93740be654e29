/** What agents' disks hold: volumes and the links to them in sandboxes. */
import { Disk } from './disk.ts';
import type { Data } from './mysql.ts';

export interface Marker {
  readonly cluster: string;
  readonly ordinal: number;
  readonly persistenceId: string;
  readonly incarnation: string;
  readonly serverUuid: string;
  readonly serverId: number;
  readonly fill: 'filling' | 'rebuilding' | 'filled';
  /** A trim that is not over, as in src/executor/volumes.ts. */
  readonly trim?: TrimIntent | null;
}

export interface TrimIntent {
  readonly incarnation: string;
  readonly serverUuid: string;
  readonly serverId: number;
  readonly phase: 'saving' | 'cutting' | 'cut';
}

export interface MemberState {
  readonly leaderToken: number;
  readonly epoch: number;
  readonly wasWritable: boolean;
  readonly held: { readonly code: string; readonly message: string } | null;
}

export interface Backup {
  readonly id: string;
  readonly gtidSet: string;
  readonly data: Data;
  readonly startedAt: number;
  readonly endedAt: number;
  verifiedAt?: number;
}

export interface Volume {
  readonly path: string;
  /** Another directory in the same path has another one. */
  readonly place: string;
  readonly disk: Disk;
  marker: Marker | null;
  state: MemberState;
  data: Data | null;
  backups: Backup[];
  /** So many have room. */
  backupsMax?: number;
  /** How many were saved here. */
  tails: number;
  /** It is not mounted: this empty directory is there instead. */
  hiddenBehind: Volume | null;
  /** A file system of its own, which may be away. */
  isOwnDevice: boolean;
}

export const firstState: MemberState = { leaderToken: 0, epoch: 0, wasWritable: false, held: null };

const emptyVolume = (path: string, place: string): Volume => ({
  path,
  place,
  disk: new Disk(),
  marker: null,
  state: firstState,
  data: null,
  backups: [],
  tails: 0,
  hiddenBehind: null,
  isOwnDevice: false,
});

export interface Disks {
  makeDirectory(path: string): void;
  /** A volume goes; `onDestroyed` is told what it held. */
  remove(path: string): void;
  link(target: string, path: string): void;
  unlink(path: string): void;
  /** The volume behind a link in a sandbox. */
  resolve(path: string): Volume | null;
  volumes(): readonly Volume[];
  /** The disk did not come back: an empty directory is there instead. */
  hide(volume: Volume): void;
  unhide(volume: Volume): void;
}

export function createDisks(onDestroyed: (volume: Volume) => void): Disks {
  const volumes = new Map<string, Volume>();
  const links = new Map<string, string>();
  let places = 0;
  const make = (path: string) => {
    places += 1;
    return emptyVolume(path, String(places));
  };
  return {
    makeDirectory(path) {
      if (path.includes('/volumes/') && !volumes.has(path)) volumes.set(path, make(path));
    },
    remove(path) {
      const volume = volumes.get(path);
      if (!volume) return;
      volumes.delete(path);
      onDestroyed(volume);
    },
    link: (target, path) => void links.set(path, target),
    unlink: (path) => void links.delete(path),
    resolve(path) {
      const volume = volumes.get(links.get(path) ?? '') ?? null;
      return volume?.hiddenBehind ?? volume;
    },
    volumes: () => [...volumes.values()],
    hide(volume) {
      volume.hiddenBehind ??= make(volume.path);
      volume.isOwnDevice = true;
    },
    unhide(volume) {
      volume.hiddenBehind = null;
    },
  };
}
