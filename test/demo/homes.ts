/** Where a member lives: its agent, volumes and ports must stay the same whatever happens to its processes. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Api, ReservationAnswer } from './api-client.ts';

export interface Home {
  readonly ordinal: number;
  readonly agent: string;
  readonly dataDir: string;
  readonly backupDir: string | null;
  /** Everything that has to stay the same, as one text. */
  readonly identity: string;
}

const role = 'mysql';

/** As Mesos lays volumes out: a mount disk is the volume itself, on other disks it has a directory of its own. */
const volumeDir = ({ type, path, persistenceId }: ReservationAnswer['volumes'][number]): string => {
  if (path === null) throw new Error(`volume ${persistenceId} is on a root disk: the demo does not use those`);
  return type === 'mount' ? path : join(path, 'volumes', 'roles', role, persistenceId);
};

/** Of every member, by ordinal. */
export async function readHomes(api: Api, clusterId: string): Promise<Home[]> {
  const reservations = await api.reservations();
  return reservations
    .filter((each) => each.clusterId === clusterId)
    .sort((one, other) => one.member - other.member)
    .map((each) => {
      const data = each.volumes.find(({ kind }) => kind === 'data');
      const backup = each.volumes.find(({ kind }) => kind === 'backup');
      if (!data) throw new Error(`member ${each.member} has no data volume`);
      return {
        ordinal: each.member,
        agent: each.hostname,
        dataDir: volumeDir(data),
        backupDir: backup ? volumeDir(backup) : null,
        identity: JSON.stringify([each.id, each.agentId, each.host, each.ports, each.volumes]),
      };
    });
}

/** Throws when the member is not where it was. */
export async function checkHome(api: Api, clusterId: string, before: Home): Promise<void> {
  const after = (await readHomes(api, clusterId)).find(({ ordinal }) => ordinal === before.ordinal);
  if (after?.identity !== before.identity)
    throw new Error(`member ${before.ordinal} moved: from ${before.identity} to ${after?.identity}`);
}

/** What is left of a volume after DESTROY: nothing, or the empty root of a mount disk. */
export const isVolumeLeft = (dir: string): boolean => existsSync(dir) && readdirSync(dir).length > 0;

/** The executors' private directories outside the sandboxes, found by the data directories that their my.cnf names. */
export function findRunDirectories(dataDir: string): string[] {
  const prefix = `selvedge-${process.getuid?.() ?? 0}-`;
  return readdirSync(tmpdir())
    .filter((name) => name.startsWith(prefix))
    .map((name) => join(tmpdir(), name))
    .filter((dir) => {
      try {
        return readFileSync(join(dir, 'my.cnf'), 'utf8').includes(`datadir = ${dataDir}/`);
      } catch {
        return false;
      }
    });
}

export function removeRunDirectories(dataDir: string): void {
  for (const dir of findRunDirectories(dataDir)) rmSync(dir, { recursive: true, force: true });
}
