/**
 * A member's bundle as Mesos resources, and the offer operations on it. First placement is one ACCEPT with RESERVE,
 * CREATE and LAUNCH. An operation id asks for feedback only: Mesos carries a repeated id out again.
 */
import type { Bundle, PlacedVolume, Ports, VolumeKind } from '../cluster/types.ts';
import { type ReservationOwner, reservationLabels, sumOffers } from './offers.ts';
import { add, contains, isVolume, subtract, withoutAllocation, withoutVolume } from './resources.ts';
import type { Offer, OfferOperation, Reservation, Resource, TaskInfo } from './types.ts';

/** Part of the bundle that stands in TaskInfo, which must not be empty; the rest is held by the executor. */
const TOKEN_CPUS = 0.1;
const TOKEN_MEM_MB = 32;
const NANOSECONDS_PER_MS = 1e6;

export interface ReservedBy {
  readonly role: string;
  /** Absent when the framework has no principal; otherwise Mesos demands the framework's in reservations and volumes. */
  readonly principal?: string | null;
  readonly labels: ReservationOwner;
}

export interface BundleResources {
  /** Reserved, without volumes: what RESERVE asks for. */
  readonly plain: readonly Resource[];
  /** What CREATE asks for. */
  readonly volumes: readonly Resource[];
  /** What a launch lists and an offer must hold: everything but the disks under the volumes, plus the volumes. */
  readonly all: readonly Resource[];
}

const scalar = (name: string, value: number): Resource => ({ name, type: 'SCALAR', scalar: { value } });

/** Ports may come in any order and need not be neighbours. */
const portsResource = (ports: Ports): Resource => ({
  name: 'ports',
  type: 'RANGES',
  ranges: { range: [ports.mysql, ports.control, ports.health].map((port) => ({ begin: port, end: port })) },
});

function diskResource({ type, path, sizeMb }: PlacedVolume): Resource {
  const disk = scalar('disk', sizeMb);
  if (type === 'root') return disk;
  if (path === null) throw new Error(`a ${type} volume has a path`);
  return type === 'path'
    ? { ...disk, disk: { source: { type: 'PATH', path: { root: path } } } }
    : { ...disk, disk: { source: { type: 'MOUNT', mount: { root: path } } } };
}

/** container_path is a single component: with a slash Mesos would silently not mount the volume. */
function volumeResource(
  disk: Resource,
  {
    kind,
    persistenceId,
    principal,
  }: {
    kind: VolumeKind;
    persistenceId: string;
    principal: string | null;
  },
): Resource {
  const persistence = { id: persistenceId, ...(principal === null ? {} : { principal }) };
  return { ...disk, disk: { ...disk.disk, persistence, volume: { mode: 'RW', container_path: kind } } };
}

export function bundleResources(bundle: Bundle, { role, principal = null, labels }: ReservedBy): BundleResources {
  const reservation: Reservation = {
    type: 'DYNAMIC',
    role,
    ...(principal === null ? {} : { principal }),
    labels: reservationLabels(labels),
  };
  const reserve = (resource: Resource): Resource => ({ ...resource, reservations: [reservation] });
  const base = add([scalar('cpus', bundle.cpus), scalar('mem', bundle.memMb), portsResource(bundle.ports)]).map(
    reserve,
  );
  const placed: [VolumeKind, PlacedVolume | null][] = [
    ['data', bundle.data],
    ['backup', bundle.backup],
  ];
  const disks: Resource[] = [];
  const volumes: Resource[] = [];
  for (const [kind, volume] of placed) {
    if (!volume) continue;
    const disk = reserve(diskResource(volume));
    disks.push(disk);
    volumes.push(volumeResource(disk, { kind, persistenceId: volume.persistenceId, principal }));
  }
  return { plain: [...base, ...disks], volumes, all: [...base, ...volumes] };
}

const withId = (id: string | undefined) => (id === undefined ? {} : { id: { value: id } });

export const reserveOperation = (resources: readonly Resource[], id?: string): OfferOperation => ({
  type: 'RESERVE',
  ...withId(id),
  reserve: { resources: [...resources] },
});
export const unreserveOperation = (resources: readonly Resource[], id?: string): OfferOperation => ({
  type: 'UNRESERVE',
  ...withId(id),
  unreserve: { resources: [...resources] },
});
export const createOperation = (volumes: readonly Resource[], id?: string): OfferOperation => ({
  type: 'CREATE',
  ...withId(id),
  create: { volumes: [...volumes] },
});
/** Deletes the data on the agent at once. */
export const destroyOperation = (volumes: readonly Resource[], id?: string): OfferOperation => ({
  type: 'DESTROY',
  ...withId(id),
  destroy: { volumes: [...volumes] },
});
export const launchOperation = (...tasks: readonly TaskInfo[]): OfferOperation => ({
  type: 'LAUNCH',
  launch: { task_infos: [...tasks] },
});

/** First placement. One failing operation does not stop the later ones; the launch then ends as TASK_ERROR. */
export const acceptForNewMember = (
  resources: BundleResources,
  task: TaskInfo,
  operationId?: string,
): OfferOperation[] => [
  reserveOperation(resources.plain, operationId && `${operationId}.reserve`),
  createOperation(resources.volumes, operationId && `${operationId}.create`),
  launchOperation(task),
];

/**
 * DESTROY all volumes, then UNRESERVE everything, for what findReserved() saw. Static reservations are an operator's
 * and stay. Empty if there is nothing to release.
 */
export function releaseOperations(seen: readonly Resource[], operationId?: string): OfferOperation[] {
  const ours = seen.map(withoutAllocation).filter((resource) => resource.reservations?.at(-1)?.type === 'DYNAMIC');
  const volumes = ours.filter(isVolume);
  return [
    ...(volumes.length > 0 ? [destroyOperation(volumes, operationId && `${operationId}.destroy`)] : []),
    ...(ours.length > 0
      ? [unreserveOperation(add(ours.map(withoutVolume)), operationId && `${operationId}.unreserve`)]
      : []),
  ];
}

/** The union of these offers (of one agent) holds all of it: one ACCEPT that lists them all can launch. */
export const coversBundle = (offers: readonly Offer[], resources: readonly Resource[]): boolean =>
  contains(sumOffers(offers), resources.map(withoutAllocation));

/** All of the bundle is in `seen`, its volumes destroyed or not. */
export const coversReservation = (seen: readonly Resource[], resources: readonly Resource[]): boolean =>
  contains(add(seen.map((each) => withoutVolume(withoutAllocation(each)))), resources.map(withoutVolume));

/** Mesos' own default of 5 s is too short for mysqld. */
const DEFAULT_SHUTDOWN_GRACE_MS = 60_000;

export interface TaskInput {
  /** Also the executor's id; fresh for every launch: a known executor would be accepted on the token alone while it dies. */
  readonly taskId: string;
  readonly name: string;
  readonly agentId: string;
  /** BundleResources.all, or what was stored of it. */
  readonly resources: readonly Resource[];
  readonly command: {
    /** Shell command line, run in the sandbox with nothing inherited from the agent's environment. */
    readonly value: string;
    readonly user?: string | null;
    readonly uris?: readonly { readonly value: string; readonly extract?: boolean; readonly executable?: boolean }[];
    readonly environment?: Readonly<Record<string, string>>;
  };
  /** From SHUTDOWN to SIGKILL. */
  readonly shutdownGraceMs?: number;
  /** JSON text of the launch plan; visible to everyone who reads Mesos. */
  readonly data: string;
  readonly ports: Ports;
}

/** The token of the bundle: same reservation, little enough. */
const tokenOf = (resources: readonly Resource[]): Resource[] =>
  resources.flatMap((resource) => {
    if (resource.name === 'cpus') return [{ ...resource, scalar: { value: TOKEN_CPUS } }];
    return resource.name === 'mem' ? [{ ...resource, scalar: { value: TOKEN_MEM_MB } }] : [];
  });

function discoveryInfo(name: string, ports: Ports): NonNullable<TaskInfo['discovery']> {
  const port = (key: keyof Ports) => ({ number: ports[key], name: key, protocol: 'tcp' });
  return { visibility: 'CLUSTER', name, ports: { ports: [port('mysql'), port('control'), port('health')] } };
}

/**
 * One task in one executor, which holds the bundle: nothing of it is offered again while a process of ours lives.
 * The task carries the labels of its reservation. Throws if the resources are smaller than the token.
 */
export function taskInfo(input: TaskInput): TaskInfo {
  const { taskId, name, agentId, command, shutdownGraceMs = DEFAULT_SHUTDOWN_GRACE_MS, data, ports } = input;
  const resources = input.resources.map(withoutAllocation);
  const token = tokenOf(resources);
  const labels = resources[0]?.reservations?.at(-1)?.labels;
  const { value, user = null, uris = [], environment = {} } = command;
  const variables = Object.entries(environment).map(([key, text]) => ({ name: key, type: 'VALUE', value: text }));
  return {
    name,
    task_id: { value: taskId },
    agent_id: { value: agentId },
    resources: token,
    executor: {
      type: 'CUSTOM',
      executor_id: { value: taskId },
      name: 'selvedge-executor',
      source: 'selvedge',
      resources: subtract(resources, token),
      command: {
        shell: true,
        value,
        ...(user === null ? {} : { user }),
        ...(uris.length > 0 ? { uris: [...uris] } : {}),
        ...(variables.length > 0 ? { environment: { variables } } : {}),
      },
      shutdown_grace_period: { nanoseconds: shutdownGraceMs * NANOSECONDS_PER_MS },
    },
    data: Buffer.from(data, 'utf8').toString('base64'),
    ...(labels ? { labels } : {}),
    discovery: discoveryInfo(name, ports),
  };
}
