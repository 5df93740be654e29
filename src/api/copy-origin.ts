/** `from` of a new cluster: which backup of which cluster serves, up to where; refused here when it cannot be. */
import type { z } from 'zod';
import { delay } from '../clock.ts';
import { compactGtidSet, parseGtidSet } from '../cluster/gtid-set.ts';
import { chooseBackup, copyRoomMb, type Origin, type Until } from '../cluster/recovery.ts';
import type { SpecInput } from '../cluster/spec.ts';
import type { ClusterSpec } from '../cluster/types.ts';
import { Refusal } from '../errors.ts';
import { getBackup } from '../store/backups.ts';
import type { ClusterRow } from '../store/rows.ts';
import type { ApiDeps } from './deps.ts';
import { getClusterToCopy } from './lookups.ts';
import { BadRequest } from './problems.ts';
import type { createBody, fromBody } from './schemas.ts';

/** Longer than the pause between two statuses of a member. */
const FRESHER_MS = 3_000;
const LOOK_MS = 200;

type From = z.infer<typeof fromBody>;

export interface FoundOrigin {
  readonly source: ClusterRow;
  readonly origin: Origin;
}

/**
 * Refusals: NOT_FOUND, CLUSTER_DELETING, NO_PRIMARY (nothing was ever acknowledged there, or it is not known now), those
 * of chooseBackup, and of a cluster whose volumes are retained CLUSTER_RETAINED (it has not ended yet), HOLDER_AWAY.
 */
export async function findOrigin(deps: ApiDeps, from: From): Promise<FoundOrigin> {
  const until = readUntil(from, deps.clock.now());
  const named = from.cluster ?? (await getBackup(deps.store, from.backup!)).clusterId;
  const source = await getClusterToCopy(deps.store, named);
  const { choice, within } = await choose(deps, source, { until, backupId: from.backup });
  if (choice.kind === 'refused') throw new Refusal(choice.code, `${source.name}: ${choice.message}.`);
  const { id, ordinal, bytes, gtidSet, endedAt } = choice.backup;
  if (source.desired === 'retained' && !choice.backup.isReachable)
    throw new Refusal('HOLDER_AWAY', `Backup ${id} of ${source.name} is on member ${ordinal}, whose agent is away.`);
  const backup = { id, ordinal, bytes, gtidSet, endedAt };
  const maxBytesPerSec = from.maxBytesPerSec ?? null;
  return { source, origin: { clusterId: source.id, cluster: source.name, backup, until, within, maxBytesPerSec } };
}

interface Wanted {
  readonly until: Until;
  readonly backupId: string | undefined;
}

/** What the primary was last seen to have may be older than a backup that was just taken: it is looked again then. */
async function choose({ live, clock }: ApiDeps, source: ClusterRow, wanted: Wanted) {
  const until = clock.now() + FRESHER_MS;
  for (;;) {
    const options = live.copyOptions(source.id);
    if (!options || options.within === null) {
      if (source.desired === 'retained')
        throw new Refusal(
          'CLUSTER_RETAINED',
          `${source.name} is still ending; copy it when its state is \`retained\`.`,
        );
      throw new Refusal('NO_PRIMARY', `What ${source.name} has acknowledged is not known now.`);
    }
    const { within, backups } = options;
    const choice = chooseBackup(backups, { ...wanted, within });
    const isTooEarly = choice.kind === 'refused' && choice.code === 'BACKUP_NOT_ACKNOWLEDGED';
    if (!isTooEarly || clock.now() >= until) return { choice, within };
    await delay(clock, LOOK_MS);
  }
}

/** Names what is wrong below `path`. */
export function readUntil({ at, gtid }: Pick<From, 'at' | 'gtid'>, now: number, path = 'from.'): Until {
  if (gtid !== undefined) return { kind: 'gtid', gtidSet: readSet(gtid, path) };
  if (at === undefined) return { kind: 'backup' };
  const atMs = typeof at === 'number' ? at : Date.parse(at);
  if (!Number.isFinite(atMs)) throw fault(`${path}at`, 'must be a time as in RFC 3339, or milliseconds since 1970');
  if (atMs > now) throw fault(`${path}at`, `is in the future; it is ${new Date(now).toISOString()} now`);
  return { kind: 'at', atMs };
}

function readSet(text: string, path: string): string {
  try {
    return compactGtidSet(parseGtidSet(text));
  } catch (error) {
    throw fault(`${path}gtid`, (error as Error).message);
  }
}

const fault = (path: string, message: string) => new BadRequest([{ path, message }]);

/** What the request leaves out is as in the source. */
export function specOf(body: Omit<z.infer<typeof createBody>, 'from'>, source: ClusterSpec | null): SpecInput {
  const { name, resources = source?.resources, volumes = source?.volumes, ...rest } = body;
  if (!resources) throw fault('resources', 'is needed');
  if (!volumes) throw fault('volumes', 'is needed');
  // Another number of members has a durability of its own.
  const isAsMany = rest.members === undefined || rest.members === source?.members;
  const durability = rest.durability ?? (isAsMany ? source?.durability : undefined);
  return { ...(source ?? {}), ...rest, name, resources, volumes, durability };
}

/** Looked at before anything is made: the volume of the first member takes the backup, and room to work. */
export function requireFit(spec: ClusterSpec, { backup }: Origin): void {
  const neededMb = Math.ceil(backup.bytes / 1048576) + copyRoomMb;
  const { sizeMb } = spec.volumes.data;
  if (sizeMb >= neededMb) return;
  const message = `The backup needs ${neededMb} MB, room for its logs among them; volumes.data.sizeMb is ${sizeMb}.`;
  throw new Refusal('VOLUME_TOO_SMALL', message, { neededMb, sizeMb, backup: backup.id });
}
