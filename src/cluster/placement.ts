/**
 * Does a member fit on what an agent offers? Every stage is looked at, also after one has failed, so that a person
 * sees all that is missing at once. Sizes are compared in thousandths, as Mesos itself does, so that 0.1 + 0.2 is 0.3.
 *
 * Disks: root and path disks are split; a mount disk is taken whole, the smallest that is large enough. Data and
 * backup share a disk only when both are on the root disk: a backup beside its data on one path disk would fill and
 * die together with it.
 */
import type { AgentOffer, Bundle, ClusterSpec, OfferedDisk, PlacedVolume, PortRange, VolumeSpec } from './types.ts';

export const PORTS_PER_MEMBER = 3;

export type StageName = 'spread' | 'attributes' | 'maintenance' | 'cpus' | 'mem' | 'ports' | 'data' | 'backup';

export interface Stage {
  readonly name: StageName;
  readonly isPassed: boolean;
  /** A sentence with the numbers, also when passed. */
  readonly reason: string;
}

export interface PersistenceIds {
  readonly data: string;
  /** Not used when the cluster has no backup volume. */
  readonly backup: string;
}

export interface PlaceInput {
  readonly spec: ClusterSpec;
  readonly ordinal: number;
  /** Agents that hold the cluster's other members. */
  readonly agentsInUse: readonly string[];
  readonly offer: AgentOffer;
  /** Fresh uuids, never used before. */
  readonly newPersistenceIds: PersistenceIds;
}

export type Placement =
  | { readonly kind: 'placed'; readonly bundle: Bundle; readonly stages: readonly Stage[] }
  | { readonly kind: 'refused'; readonly stages: readonly Stage[] };

/** Cuts a member's bundle out of one agent's offers, or says for each stage why not. Same input, same answer. */
export function placeMember(input: PlaceInput): Placement {
  const { spec, offer, newPersistenceIds: ids } = input;
  const ports = takePorts(offer.ports);
  const data = takeVolume('data', spec.volumes.data, offer.disks, ids.data);
  const backup = spec.volumes.backup && takeVolume('backup', spec.volumes.backup, data.rest, ids.backup);
  const stages = [
    judgeSpread(input),
    judgeAttributes(spec, offer),
    judgeMaintenance(offer),
    judgeScalar('cpus', spec.resources.cpus, offer.cpus),
    judgeScalar('mem', spec.resources.memMb, offer.memMb),
    ports.stage,
    data.stage,
    backup?.stage ?? pass('backup', 'No backup volume is asked for'),
  ];
  if (!ports.taken || !data.volume || (backup && !backup.volume) || stages.some((stage) => !stage.isPassed))
    return { kind: 'refused', stages };
  const [mysql, control, health] = ports.taken;
  const bundle: Bundle = {
    cpus: spec.resources.cpus,
    memMb: spec.resources.memMb,
    ports: { mysql, control, health },
    data: data.volume,
    backup: backup?.volume ?? null,
  };
  return { kind: 'placed', bundle, stages };
}

/** The agent's offer without the bundle: what a second member could still take in the same round. */
export function withoutBundle(offer: AgentOffer, bundle: Bundle): AgentOffer {
  let disks = offer.disks;
  for (const volume of [bundle.data, bundle.backup]) if (volume) disks = withoutVolume(disks, volume);
  let ports = offer.ports;
  for (const port of Object.values(bundle.ports)) ports = withoutPort(ports, port);
  const cpus = (toThousandths(offer.cpus) - toThousandths(bundle.cpus)) / 1000;
  const memMb = (toThousandths(offer.memMb) - toThousandths(bundle.memMb)) / 1000;
  return { ...offer, cpus, memMb, ports, disks };
}

function judgeSpread({ spec, ordinal, agentsInUse, offer }: PlaceInput): Stage {
  if (spec.placement.spread === 'none') return pass('spread', 'Members may share an agent');
  if (agentsInUse.includes(offer.agentId))
    return fail(
      'spread',
      `Another member of ${spec.name} is on ${offer.hostname}: member ${ordinal} needs its own agent`,
    );
  return pass('spread', `No other member of ${spec.name} is on ${offer.hostname}`);
}

function judgeAttributes(spec: ClusterSpec, offer: AgentOffer): Stage {
  const wanted = Object.entries(spec.placement.attributes);
  const missing = wanted.filter(([name, value]) => findOwn(offer.attributes, name) !== value);
  if (missing.length === 0) return pass('attributes', `${wanted.length} of ${wanted.length} wanted attributes match`);
  const words = missing.map(([name, value]) => `${name}=${value} (is ${findOwn(offer.attributes, name) ?? 'not set'})`);
  return fail(
    'attributes',
    `${missing.length} of ${wanted.length} wanted attributes do not match: ${words.join(', ')}`,
  );
}

function judgeMaintenance(offer: AgentOffer): Stage {
  if (offer.isUnavailable) return fail('maintenance', `Maintenance is scheduled for ${offer.hostname}`);
  return pass('maintenance', 'No maintenance is scheduled');
}

function judgeScalar(name: 'cpus' | 'mem', wanted: number, offered: number): Stage {
  const unit = name === 'cpus' ? 'cpus' : 'MB of memory';
  const reason = `${trim(wanted)} ${unit} wanted, ${trim(offered)} offered`;
  return { name, isPassed: toThousandths(wanted) <= toThousandths(offered), reason };
}

/** The lowest ports, in the order mysql, control, health. */
function takePorts(ranges: readonly PortRange[]): { taken: [number, number, number] | null; stage: Stage } {
  const taken: number[] = [];
  let offered = 0;
  for (const { begin, end } of [...ranges].sort((a, b) => a.begin - b.begin)) {
    offered += Math.max(0, end - begin + 1);
    for (let port = begin; port <= end && taken.length < PORTS_PER_MEMBER; port++)
      if (!taken.includes(port)) taken.push(port);
  }
  const [mysql, control, health] = taken;
  const reason = `${PORTS_PER_MEMBER} ports wanted, ${offered} offered`;
  if (mysql === undefined || control === undefined || health === undefined)
    return { taken: null, stage: fail('ports', reason) };
  return { taken: [mysql, control, health], stage: pass('ports', reason) };
}

/**
 * Another backup volume for a member that keeps its data volume. The disk of the one before may be why it is lost: it
 * is taken, with the room that the old volume frees on it, only where no other one is large enough.
 */
export function placeBackup(input: {
  readonly wanted: VolumeSpec;
  readonly data: PlacedVolume;
  readonly old: PlacedVolume;
  /** The old volume is on offer: what it holds becomes free. */
  readonly isOldOffered: boolean;
  readonly disks: readonly OfferedDisk[];
  readonly persistenceId: string;
}): { readonly volume: PlacedVolume | null; readonly stage: Stage } {
  const { wanted, data, old, persistenceId } = input;
  const disks = input.disks.filter((disk) => data.type === 'root' || !isSameDisk(disk, data));
  const others = disks.filter((disk) => !isSameDisk(disk, old));
  const other = takeVolume('backup', wanted, others, persistenceId);
  if (other.volume) return other;
  const same = disks.find((disk) => isSameDisk(disk, old));
  const sizeMb = (toThousandths(same?.sizeMb ?? 0) + (input.isOldOffered ? toThousandths(old.sizeMb) : 0)) / 1000;
  return takeVolume('backup', wanted, [...others, { type: old.type, path: old.path, sizeMb }], persistenceId);
}

interface TakenVolume {
  readonly volume: PlacedVolume | null;
  /** What is left for the next volume. */
  readonly rest: readonly OfferedDisk[];
  readonly stage: Stage;
}

/**
 * The smallest disk that is large enough. Taking data first and then backup never misses a pair that fits: if the
 * backup only fitted on the disk that data took, every other disk that could hold data would hold the backup as well.
 */
function takeVolume(
  name: 'data' | 'backup',
  wanted: VolumeSpec,
  disks: readonly OfferedDisk[],
  persistenceId: string,
): TakenVolume {
  const ofType = disks.filter((disk) => disk.type === wanted.type).sort(bySizeThenPath);
  const disk = ofType.find((one) => toThousandths(one.sizeMb) >= toThousandths(wanted.sizeMb));
  if (!disk) {
    const largest = ofType.at(-1);
    const offered = largest ? `the largest of ${ofType.length} has ${trim(largest.sizeMb)} MB` : 'none is offered';
    const other = name === 'backup' && wanted.type !== 'root' ? ' beside the one for the data' : '';
    const reason = `${trim(wanted.sizeMb)} MB on a ${wanted.type} disk${other} wanted, ${offered}`;
    return { volume: null, rest: disks, stage: fail(name, reason) };
  }
  const sizeMb = disk.type === 'mount' ? disk.sizeMb : wanted.sizeMb;
  const volume: PlacedVolume = { type: disk.type, path: disk.path, sizeMb, persistenceId };
  const rest = disk.type === 'root' ? withoutVolume(disks, volume) : disks.filter((one) => !isSameDisk(one, disk));
  const where = disk.path === null ? '' : ` ${disk.path}`;
  const reason = `${trim(wanted.sizeMb)} MB on a ${wanted.type} disk wanted, ${trim(sizeMb)} of ${trim(disk.sizeMb)} MB taken${where}`;
  return { volume, rest, stage: pass(name, reason) };
}

function withoutVolume(disks: readonly OfferedDisk[], volume: PlacedVolume): readonly OfferedDisk[] {
  return disks.flatMap((disk) => {
    if (!isSameDisk(disk, volume)) return [disk];
    const leftMb = (toThousandths(disk.sizeMb) - toThousandths(volume.sizeMb)) / 1000;
    return disk.type === 'mount' || leftMb <= 0 ? [] : [{ ...disk, sizeMb: leftMb }];
  });
}

function withoutPort(ranges: readonly PortRange[], port: number): readonly PortRange[] {
  return ranges.flatMap((range) => {
    if (port < range.begin || port > range.end) return [range];
    const parts = [
      { begin: range.begin, end: port - 1 },
      { begin: port + 1, end: range.end },
    ];
    return parts.filter((part) => part.begin <= part.end);
  });
}

type Disk = Pick<OfferedDisk, 'type' | 'path'>;

function isSameDisk(left: Disk, right: Disk): boolean {
  return left.type === right.type && left.path === right.path;
}

function bySizeThenPath(left: OfferedDisk, right: OfferedDisk): number {
  return left.sizeMb - right.sizeMb || compareText(left.path ?? '', right.path ?? '');
}

function compareText(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

/** An attribute named like a property of every object must not be found. */
function findOwn(attributes: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(attributes, name) ? attributes[name] : undefined;
}

function toThousandths(value: number): number {
  return Math.round(value * 1000);
}

function trim(value: number): string {
  return String(toThousandths(value) / 1000);
}

function pass(name: StageName, reason: string): Stage {
  return { name, isPassed: true, reason };
}

function fail(name: StageName, reason: string): Stage {
  return { name, isPassed: false, reason };
}
