/** The eight steps of the demo. Each answers with what it saw, and throws when something is not as promised. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Login } from '../../src/mysql/connection.ts';
import type { Api, ClusterAnswer, FailoverAnswer } from './api-client.ts';
import { ApiError } from './api-client.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Endpoints } from './endpoints.ts';
import { checkHome, findRunDirectories, type Home, isVolumeLeft, readHomes } from './homes.ts';
import { findMember, findUsersOf, isAlive, killProcess } from './processes.ts';
import { Hopeless, now, waitFor } from './wait.ts';
import type { Writer } from './writer.ts';

export const clusterName = 'orders';
export const clusterBody = {
  name: clusterName,
  members: 3,
  resources: { cpus: 0.5, memMb: 512 },
  volumes: { data: { type: 'mount', sizeMb: 1024 }, backup: { type: 'path', sizeMb: 1024 } },
};

export interface Story {
  readonly plane: ControlPlane;
  readonly api: Api;
  readonly endpoints: Endpoints;
  readonly writer: Writer;
  readonly login: Login;
  readonly clusterId: string;
  readonly signal: AbortSignal;
  /** How long to write undisturbed where nothing else sets the time. */
  readonly settleMs: number;
}

const readyTimeoutMs = 60_000;
const seconds = (from: number): string => `${((now() - from) / 1000).toFixed(1)} s`;

/** Waits until all members serve. Names what is missing when they do not. */
export async function waitReady(api: Api, signal?: AbortSignal, timeoutMs = readyTimeoutMs): Promise<ClusterAnswer> {
  let last = '';
  try {
    return await waitFor({ what: 'the cluster to be ready', timeoutMs, signal }, async () => {
      const cluster = await api.cluster(clusterName);
      last = [cluster.state, ...cluster.conditions.map(({ type, message }) => `${type}: ${message}`)].join('; ');
      return cluster.state === 'ready' ? cluster : null;
    });
  } catch (error) {
    throw new Error(`the cluster is not ready: ${last}`, { cause: error });
  }
}

async function findHome({ api, clusterId }: Story, ordinal: number): Promise<Home> {
  const home = (await readHomes(api, clusterId)).find((each) => each.ordinal === ordinal);
  if (!home) throw new Error(`member ${ordinal} has no reservation`);
  return home;
}

function getMysqld(story: Story, ordinal: number) {
  const { mysqld } = findMember(story.clusterId, ordinal) ?? {};
  if (!mysqld) throw new Error(`no mysqld of member ${ordinal} runs`);
  return mysqld;
}

/** The newest change of the primary since `epoch`, when it is complete. Throws when it was refused. */
async function waitChanged(story: Story, epoch: number): Promise<FailoverAnswer> {
  return waitFor({ what: 'the new primary', timeoutMs: 30_000, signal: story.signal }, async () => {
    const newest = (await story.api.failovers(clusterName)).find((each) => each.fromEpoch === epoch);
    if (newest?.outcome === 'refused' || newest?.outcome === 'aborted')
      throw new Hopeless(`the change of the primary was ${newest.outcome}: ${newest.refusal?.message}`);
    return newest?.outcome === 'done' ? newest : null;
  });
}

const writeTimeoutMs = 30_000;

/** When the first row is acknowledged by a member that may be the new primary. Begin to wait before the change. */
function firstWriteBy(writer: Writer, { members }: ClusterAnswer, isWanted: (ordinal: number) => boolean) {
  const ordinals = members.map(({ ordinal }) => ordinal).filter(isWanted);
  const written = writer.acknowledgedAfter(now(), writeTimeoutMs, ordinals);
  written.catch(() => {}); // awaited later
  return written;
}

/** SIGKILL of the primary's mysqld: another member takes over, and the old primary comes back on its own volume. */
export async function failOver(story: Story): Promise<string> {
  const { api, writer, signal } = story;
  const before = await waitReady(api, signal);
  const old = before.primary ?? -1;
  const home = await findHome(story, old);
  const mysqld = getMysqld(story, old);
  const written = firstWriteBy(writer, before, (ordinal) => ordinal !== old);
  const killedAt = now();
  killProcess(mysqld);
  const [change, writtenAt] = await Promise.all([waitChanged(story, before.epoch), written]);
  const cluster = await waitReady(api, signal);
  await checkHome(api, story.clusterId, home);
  if (cluster.members[old]?.role !== 'replica') throw new Error(`member ${old} is not a replica`);
  const tookMs = Math.round(writtenAt - killedAt);
  return `member ${change.toPrimary} took writes after ${tookMs} ms; ${old} is a replica again on ${home.agent}, same volume, after ${seconds(killedAt)}`;
}

/** A planned change back to the member that was the primary first. */
export async function switchBack(story: Story): Promise<string> {
  const { api, writer, signal } = story;
  const before = await waitReady(api, signal);
  const [candidate] = before.members.filter(({ ordinal }) => ordinal !== before.primary);
  if (!candidate) throw new Error('there is nobody to hand over to');
  const asked = {
    kind: 'switchover',
    candidate: candidate.ordinal,
    ifPrimary: before.primary,
    ifEpoch: before.epoch,
    reason: 'demo: back to where it was',
  };
  const written = firstWriteBy(writer, before, (ordinal) => ordinal === candidate.ordinal);
  const askedAt = now();
  await api.changePrimary(clusterName, asked);
  const [change, writtenAt] = await Promise.all([waitChanged(story, before.epoch), written]);
  if (change.toPrimary !== candidate.ordinal) throw new Error(`member ${change.toPrimary} is the primary`);
  await waitReady(api, signal);
  return `member ${candidate.ordinal} took writes ${Math.round(writtenAt - askedAt)} ms after it was asked for`;
}

/** The replica that steps 4 and 5 work on: the last one. */
export const lastReplica = (cluster: ClusterAnswer): number =>
  cluster.members.findLast(({ ordinal }) => ordinal !== cluster.primary)?.ordinal ?? -1;

/** A full backup of a replica onto its own backup volume. */
export async function backUp(story: Story): Promise<string> {
  const { api, signal } = story;
  const ordinal = lastReplica(await waitReady(api, signal));
  const home = await findHome(story, ordinal);
  const { id } = await api.backUp(clusterName, ordinal);
  const backup = await waitFor({ what: 'the backup', timeoutMs: 60_000, signal }, async () => {
    const found = await api.backup(clusterName, id);
    if (found.state === 'failed') throw new Hopeless(`the backup failed: ${found.code}: ${found.message}`);
    return found.state === 'complete' ? found : null;
  });
  if (home.backupDir === null || !isVolumeLeft(home.backupDir)) throw new Error('the backup volume is empty');
  return `member ${ordinal}, ${Math.round((backup.bytes ?? 0) / 1e6)} MB on the backup volume of ${home.agent}`;
}

/** The replica's data files are destroyed: it is filled from its own backup volume, where it is. */
export async function destroyDataFiles(story: Story): Promise<string> {
  const { api, signal } = story;
  const before = await waitReady(api, signal);
  const ordinal = lastReplica(before);
  const home = await findHome(story, ordinal);
  const known = new Set((await api.rebuilds(clusterName)).map(({ id }) => id));
  const files = join(home.dataDir, 'data');
  const mysqld = getMysqld(story, ordinal);
  for (const name of readdirSync(files)) rmSync(join(files, name), { recursive: true, force: true });
  killProcess(mysqld);
  const rebuild = await waitFor({ what: 'the rebuild', timeoutMs: 60_000, signal }, async () => {
    const found = (await api.rebuilds(clusterName)).find(({ id, member }) => member === ordinal && !known.has(id));
    if (found?.state === 'failed') throw new Hopeless(`the rebuild failed: ${found.code}: ${found.message}`);
    return found?.state === 'done' ? found : null;
  });
  if (!rebuild.way?.startsWith('backup:')) throw new Error(`it was filled from ${rebuild.way}, not from its backup`);
  const cluster = await waitReady(api, signal);
  await checkHome(api, story.clusterId, home);
  if (cluster.epoch !== before.epoch) throw new Error('the primary changed');
  return `member ${ordinal} was filled from its own backup on ${home.agent}, same volume`;
}

/** SIGKILL of a whole executor: its member is launched again on the same agent, volumes and ports. */
export async function killExecutor(story: Story): Promise<string> {
  const { api, signal, clusterId } = story;
  const before = await waitReady(api, signal);
  const replica = before.members.find(({ ordinal }) => ordinal !== before.primary && ordinal !== lastReplica(before));
  const ordinal = replica?.ordinal ?? -1;
  const home = await findHome(story, ordinal);
  const old = findMember(clusterId, ordinal);
  if (!old) throw new Error(`no executor of member ${ordinal} runs`);
  killProcess(old.executor);
  await waitFor({ what: 'another executor', timeoutMs: 30_000, signal }, () => {
    const found = findMember(clusterId, ordinal);
    return found !== null && found.executorId !== old.executorId && found.mysqld !== null;
  });
  const cluster = await waitReady(api, signal);
  await checkHome(api, clusterId, home);
  if (cluster.epoch !== before.epoch) throw new Error('the primary changed');
  return `member ${ordinal} was launched again on ${home.agent}, same volumes, same ports`;
}

const interruptionMaxMs = 1_000;

/** SIGKILL of the control plane in the middle of writes, and its start: nobody notices. */
export async function killControlPlane(story: Story): Promise<string> {
  const { api, plane, writer, signal, clusterId } = story;
  const before = await waitReady(api, signal);
  const processes = before.members.map(({ ordinal }) => getMysqld(story, ordinal));
  const unknownBefore = writer.unknown.length;
  const startedAt = now();
  const rowsBefore = writer.acknowledgedAt.length;
  await plane.kill();
  await sleep(story.settleMs, undefined, { signal });
  await plane.start();
  const downMs = now() - startedAt;
  const cluster = await waitReady(api, signal);
  const gapMs = writer.longestGapMs(startedAt, now());
  if (gapMs > interruptionMaxMs) throw new Error(`nothing was written for ${gapMs} ms`);
  if (writer.unknown.length > unknownBefore) throw new Error('a write had an unknown outcome');
  if (cluster.epoch !== before.epoch) throw new Error('the primary changed');
  if (!processes.every(isAlive)) throw new Error('a mysqld was started anew');
  for (const { ordinal } of before.members) await checkHome(api, clusterId, await findHome(story, ordinal));
  return `${writer.acknowledgedAt.length - rowsBefore} rows written while it was away for ${(downMs / 1000).toFixed(1)} s and after`;
}

/** Kill, DESTROY, UNRESERVE: nothing is left. */
export async function removeCluster(story: Story): Promise<string> {
  const { api, signal, clusterId } = story;
  const homes = await readHomes(api, clusterId);
  await api.remove(clusterName);
  await waitGone(api, signal);
  const left = await findLeftovers(story, homes);
  if (left.length > 0) throw new Error(`something is left: ${left.join('; ')}`);
  return 'no reservation, volume, process or private directory is left';
}

/** Until the API says that nothing is left of the cluster. */
export async function waitGone(api: Api, signal?: AbortSignal): Promise<void> {
  await waitFor({ what: 'the cluster to be gone', timeoutMs: 60_000, signal }, async () => {
    try {
      return (await api.cluster(clusterName)).state === 'deleted';
    } catch (error) {
      return error instanceof ApiError && error.status === 404;
    }
  });
}

/** Whatever there still is of a cluster that is gone; other clusters must be gone too. */
export async function findLeftovers(
  { api, plane, clusterId }: Pick<Story, 'api' | 'plane' | 'clusterId'>,
  homes: readonly Home[],
): Promise<string[]> {
  const left: string[] = [];
  for (const { member, state } of (await api.reservations()).filter((each) => each.clusterId === clusterId))
    left.push(`reservation of member ${member} (${state})`);
  left.push(...(await readMesosReservations(plane.masterUrl)).map((text) => `Mesos: ${text}`));
  for (const { dataDir, backupDir } of homes)
    for (const dir of [dataDir, backupDir]) if (dir !== null && isVolumeLeft(dir)) left.push(`volume ${dir}`);
  left.push(...findRunDirectories(plane.dataDir));
  for (const { pid, command } of findUsersOf(plane.dataDir))
    if (pid !== plane.pid()) left.push(`process ${pid} ${command.slice(0, 4).join(' ')}`);
  return left;
}

interface AgentsAnswer {
  readonly get_agents?: { readonly agents?: readonly { readonly total_resources?: readonly MesosResource[] }[] };
}
interface MesosResource {
  readonly name: string;
  readonly reservations?: readonly unknown[];
  readonly disk?: { readonly persistence?: { readonly id?: string } };
}

/** Reserved resources and volumes by the operator API of the local master. */
export async function readMesosReservations(masterUrl: string): Promise<string[]> {
  const response = await fetch(`${masterUrl}/api/v1`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({ type: 'GET_AGENTS' }),
    signal: AbortSignal.timeout(5_000),
  });
  if (!response.ok) throw new Error(`GET_AGENTS answered ${response.status}: ${await response.text()}`);
  const { get_agents } = (await response.json()) as AgentsAnswer;
  if (!get_agents?.agents?.length) throw new Error('GET_AGENTS told of no agent');
  return get_agents.agents.flatMap(({ total_resources }) =>
    (total_resources ?? [])
      .filter(({ reservations, disk }) => (reservations?.length ?? 0) > 0 || disk?.persistence)
      .map(({ name, disk }) => `${name} ${disk?.persistence?.id ?? ''}`.trim()),
  );
}
