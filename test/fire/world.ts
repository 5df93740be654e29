/** What is set on fire: `selvedge up` with faults, one cluster of three, writers, and a register beside them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Api, type ClusterAnswer, createApiClient, watchEndpoints } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { type Home, readHomes } from '../demo/homes.ts';
import { findMember, type Process } from '../demo/processes.ts';
import { clusterBody, clusterName, type Story, waitReady } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';
import { startWriter, type Writer } from '../demo/writer.ts';
import { findNft } from '../network/namespace.ts';
import { createNetwork, type Network, type Place } from '../network/network.ts';
import { type Disks, mountDisks } from './disks.ts';
import { type Register, startRegister } from './register.ts';
import { createServicePort, type ServicePort } from './service-port.ts';

/** One asks the API where the primary is, two use the service port. */
const writerCount = 3;
const rowsPerSecond = 40;
// mysqld looks only each minute whether a full disk has room again, and then has all of that to catch up.
const readyTimeoutMs = 300_000;
const ackTimeoutMs = 30_000;
const lagMaxMs = 5_000;
/** Ready is seen twice with this between: a fault that was just struck may not be known yet. */
const settleMs = 300;

export interface World extends Story {
  readonly writers: readonly Writer[];
  readonly register: Register;
  readonly homes: readonly Home[];
  readonly caPem: string;
  /** null where none can be mounted. */
  readonly disks: Disks | null;
  /** null outside of a network of its own. */
  readonly network: Network | null;
  /** Of MySQL, by ordinal. */
  readonly places: readonly Place[];
  readonly servicePort: ServicePort;
  /** The newest look at the cluster; kept while the API is away. */
  seen: ClusterAnswer;
}

export interface Stage {
  readonly disks: Disks | null;
  readonly plane: ControlPlane;
  readonly api: Api;
  readonly signal: AbortSignal;
  /** What must be ended whatever happens; the last one first. */
  readonly ends: (() => Promise<unknown> | unknown)[];
}

/** Of the local Mesos: the fourth agent has no MOUNT disks. */
const agentsWithMounts = 3;

/** `noDisks` is told why no disk can be frozen or filled. */
export async function createStage(signal: AbortSignal, noDisks: ((why: string) => void) | null): Promise<Stage> {
  const plane = await createControlPlane({ agents: 4, more: ['--faults'], signal });
  let disks: Disks | null = null;
  try {
    if (noDisks) disks = mountDisks(plane, agentsWithMounts);
  } catch (error) {
    noDisks?.((error as Error).message.split('\n')[0] ?? '');
  }
  return { disks, plane, api: createApiClient(plane.apiUrl), signal, ends: [] };
}

/** Everything runs and writes when it resolves. What it started is in `stage.ends`. */
export async function startWorld(stage: Stage): Promise<World> {
  const { plane, api, signal, ends, disks } = stage;
  ends.push(() => disks?.calm());
  await plane.start();
  const { id: clusterId, servicePort: port, credentials: login } = await api.create(clusterBody);
  if (port === null) throw new Error('the cluster has no service port');
  const servicePort = createServicePort(plane, port);
  ends.push(() => servicePort.stop());
  await servicePort.start();
  const seen = await waitReady(api, signal);
  const homes = await readHomes(api, clusterId);
  const { endpoints, stop } = watchEndpoints(api, clusterName);
  ends.push(stop);
  const caPem = login.caCertPem;
  const target = { login, caPem, ratePerSecond: rowsPerSecond };
  const writers: Writer[] = [];
  for (let index = 1; index <= writerCount; index += 1) {
    const way = index === 1 ? endpoints : servicePort.endpoints;
    const writer = await startWriter({ ...target, endpoints: way, table: `orders${index}` });
    ends.push(() => writer.stop(0));
    writers.push(writer);
  }
  const register = await startRegister({ login, caPem, endpoints: [endpoints, servicePort.endpoints] });
  ends.push(() => register.stop());
  const nft = findNft();
  const network = nft === null ? null : createNetwork(nft);
  ends.push(() => network?.mend());
  const places = (await api.reservations())
    .sort((one, other) => one.member - other.member)
    .map(({ host, ports }) => ({ host, port: ports.mysql }));
  const [writer] = writers as [Writer];
  const story = { plane, api, endpoints, writer, login, clusterId, signal, settleMs };
  return { ...story, writers, register, caPem, disks, network, places, servicePort, homes, seen };
}

/** The cluster as it is, or as it was last seen. */
export async function look(world: World): Promise<ClusterAnswer> {
  try {
    world.seen = await world.api.cluster(clusterName);
  } catch {
    // the API is away
  }
  return world.seen;
}

export const primaryOf = ({ primary }: ClusterAnswer): number => primary ?? 0;
export const replicasOf = ({ members, primary }: ClusterAnswer): number[] =>
  members.map(({ ordinal }) => ordinal).filter((ordinal) => ordinal !== primary);

/** null when it does not run. */
export const findMysqld = ({ clusterId }: World, ordinal: number): Process | null =>
  findMember(clusterId, ordinal)?.mysqld ?? null;

export const pause = ({ signal }: World, ms: number): Promise<void> => sleep(ms, undefined, { signal });

/** One fault of the local Mesos. */
export async function postFault({ plane }: World, fault: Record<string, unknown>): Promise<void> {
  const response = await fetch(`${plane.masterUrl}/faults`, {
    method: 'POST',
    body: JSON.stringify(fault),
    signal: AbortSignal.timeout(5_000),
  });
  if (!response.ok) throw new Error(`the fault ${fault['kind']} was refused: ${await response.text()}`);
}

/** As the local Mesos names the agent of a member. */
export async function agentOf({ api, clusterId }: World, ordinal: number): Promise<string> {
  const found = (await api.reservations()).find((each) => each.clusterId === clusterId && each.member === ordinal);
  if (!found) throw new Error(`member ${ordinal} has no reservation`);
  return `${found.host}:5051`;
}

/** Until all members run and serve, the cluster calls itself ready, and every writer and the register go on. */
export async function settle(world: World): Promise<void> {
  const { api, signal } = world;
  for (let round = 0; round < 2; round += 1) {
    await pause(world, settleMs);
    await waitFor({ what: 'every mysqld to run', timeoutMs: readyTimeoutMs, signal }, () =>
      world.seen.members.every(({ ordinal }) => findMysqld(world, ordinal) !== null),
    );
    world.seen = await waitReady(api, signal, readyTimeoutMs);
    // MySQL itself looks only once a minute whether a full disk has room again.
    await waitFor({ what: 'replicas without lag', timeoutMs: readyTimeoutMs, signal }, async () =>
      (await look(world)).members.every(({ role, lagMs }) => role !== 'replica' || (lagMs ?? lagMaxMs) < lagMaxMs),
    );
    const at = now();
    const goOn = world.writers.map((writer) => writer.acknowledgedAfter(at, ackTimeoutMs));
    await Promise.all([...goOn, world.register.goesOnAfter(at, ackTimeoutMs)]);
  }
}
