/**
 * What a team may ask for: defaults, limits and warnings. The API's schema uses the constants, so that there is one
 * truth; `fillSpec` checks again, because rows and other callers come this way as well.
 */
import type { AckFlush, ClusterSpec, DiskType, Durability, PlacementSpec, VolumeSpec } from './types.ts';

export const NAME_LENGTH_MAX = 40;
/** A DNS label: it becomes part of host names and file names. */
export const NAME_PATTERN = /^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$/;
export const MEMBERS_MAX = 9;
export const MEMBERS_DEFAULT = 3;
/** Room for the executor beside mysqld, and more than the token of 0.1 cpus and 32 MB that stands in TaskInfo. */
export const CPUS_MIN = 0.2;
export const CPUS_MAX = 256;
/** The smallest mysqld with performance_schema takes about 300 MB, the executor up to 90. */
export const MEM_MB_MIN = 448;
export const MEM_MB_MAX = 4 * 1024 * 1024;
/** An empty data directory with its redo log and one binary log is about 200 MB. */
export const VOLUME_MB_MIN = 256;
export const VOLUME_MB_MAX = 64 * 1024 * 1024;
export const ATTRIBUTES_MAX = 16;
export const ATTRIBUTE_LENGTH_MAX = 128;
export const DURABILITIES: readonly Durability[] = ['majority', 'one', 'async'];
export const ACK_FLUSHES: readonly AckFlush[] = ['os', 'disk'];
export const DISK_TYPES: readonly DiskType[] = ['root', 'path', 'mount'];

/** What a team sends: everything that has a default may be missing. */
export interface SpecInput {
  readonly name: string;
  readonly members?: number | undefined;
  readonly resources: { readonly cpus: number; readonly memMb: number };
  readonly volumes: { readonly data: VolumeSpec; readonly backup?: VolumeSpec | null | undefined };
  readonly durability?: Durability | undefined;
  readonly ackFlush?: AckFlush | undefined;
  readonly placement?: Partial<{ [Key in keyof PlacementSpec]: PlacementSpec[Key] | undefined }> | undefined;
}

export interface SpecFault {
  /** As in the request: `volumes.data.sizeMb`. */
  readonly path: string;
  readonly message: string;
}

export type FilledSpec =
  | { readonly kind: 'valid'; readonly spec: ClusterSpec }
  | { readonly kind: 'faulty'; readonly faults: readonly SpecFault[] };

/** One member and two default to `async`: with k = 1 a cluster of two stops taking writes when either is away. */
export function defaultDurability(members: number): Durability {
  return members >= 3 ? 'majority' : 'async';
}

/** Fills the defaults in and lists every fault, not only the first. */
export function fillSpec(input: SpecInput): FilledSpec {
  const members = input.members ?? MEMBERS_DEFAULT;
  const spec: ClusterSpec = {
    name: input.name,
    members,
    resources: { cpus: input.resources.cpus, memMb: input.resources.memMb },
    volumes: { data: input.volumes.data, backup: input.volumes.backup ?? null },
    durability: input.durability ?? defaultDurability(members),
    ackFlush: input.ackFlush ?? 'os',
    placement: { spread: input.placement?.spread ?? 'agent', attributes: input.placement?.attributes ?? {} },
  };
  const faults = findSpecFaults(spec);
  return faults.length > 0 ? { kind: 'faulty', faults } : { kind: 'valid', spec };
}

export function findSpecFaults(spec: ClusterSpec): SpecFault[] {
  const faults: SpecFault[] = [];
  const check = (isRight: boolean, path: string, message: string) => {
    if (!isRight) faults.push({ path, message });
  };
  const { resources, volumes, placement } = spec;
  check(
    NAME_PATTERN.test(spec.name),
    'name',
    `must be a DNS label: a to z, 0 to 9 and -, a letter first, no - at the end, at most ${NAME_LENGTH_MAX}`,
  );
  check(isWhole(spec.members, 1, MEMBERS_MAX), 'members', `must be a whole number from 1 to ${MEMBERS_MAX}`);
  check(
    isBetween(resources.cpus, CPUS_MIN, CPUS_MAX) && hasThreeDecimals(resources.cpus),
    'resources.cpus',
    `must be from ${CPUS_MIN} to ${CPUS_MAX} with at most three decimals`,
  );
  check(
    isWhole(resources.memMb, MEM_MB_MIN, MEM_MB_MAX),
    'resources.memMb',
    `must be a whole number from ${MEM_MB_MIN} to ${MEM_MB_MAX}`,
  );
  for (const [kind, volume] of Object.entries(volumes) as [string, VolumeSpec | null][]) {
    if (!volume) continue;
    check(DISK_TYPES.includes(volume.type), `volumes.${kind}.type`, `must be one of ${DISK_TYPES.join(', ')}`);
    check(
      isWhole(volume.sizeMb, VOLUME_MB_MIN, VOLUME_MB_MAX),
      `volumes.${kind}.sizeMb`,
      `must be a whole number from ${VOLUME_MB_MIN} to ${VOLUME_MB_MAX}`,
    );
  }
  check(DURABILITIES.includes(spec.durability), 'durability', `must be one of ${DURABILITIES.join(', ')}`);
  check(ACK_FLUSHES.includes(spec.ackFlush), 'ackFlush', `must be one of ${ACK_FLUSHES.join(', ')}`);
  check(
    spec.durability === 'async' || spec.members !== 1,
    'durability',
    'must be async for one member: nobody else could acknowledge',
  );
  check(['agent', 'none'].includes(placement.spread), 'placement.spread', 'must be agent or none');
  const attributes = Object.entries(placement.attributes);
  check(attributes.length <= ATTRIBUTES_MAX, 'placement.attributes', `must be at most ${ATTRIBUTES_MAX}`);
  check(
    attributes.every(([name, value]) => isBetween(name.length, 1, ATTRIBUTE_LENGTH_MAX) && isText(value)),
    'placement.attributes',
    `must have names and values of 1 to ${ATTRIBUTE_LENGTH_MAX} characters`,
  );
  return faults;
}

/** What is allowed and will surprise: said at creation, in the order of weight. */
export function specWarnings(spec: ClusterSpec): string[] {
  const { members, durability, volumes } = spec;
  const warnings: string[] = [];
  if (members === 1) warnings.push('One member: when its agent is away the cluster is away; there is no failover.');
  else if (durability === 'async')
    warnings.push(
      'Durability async: a crash of the primary may lose acknowledged writes; failover needs a person when that cannot be excluded.',
    );
  if (members === 2 && durability !== 'async')
    warnings.push(
      'Two members with acknowledgements: writes block while either is away, also after a failover until the other is back.',
    );
  if (members > 2 && members % 2 === 0)
    warnings.push(`${members} members tolerate no more losses than ${members - 1}: an odd number costs less.`);
  if (members > 3 && durability === 'one')
    warnings.push(`Durability one: a lossless failover needs all ${members - 1} replicas.`);
  if (spec.ackFlush === 'disk')
    warnings.push(
      durability === 'async'
        ? 'ackFlush disk does nothing with durability async: no commit waits for an acknowledgement.'
        : 'ackFlush disk: replicas flush each transaction before they acknowledge it; commits take 2 to 5 times as long (measured).',
    );
  if (volumes.backup === null) warnings.push('No backup volume: no backups, and a lost member is filled from another.');
  else if (volumes.backup.sizeMb < volumes.data.sizeMb)
    warnings.push('The backup volume is smaller than the data volume: a full backup may not fit.');
  if (spec.placement.spread === 'none' && members > 1)
    warnings.push('Placement spread none: one agent may hold several members and take them down together.');
  return warnings;
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && isBetween(value.length, 1, ATTRIBUTE_LENGTH_MAX);
}

function isWhole(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && isBetween(value, min, max);
}

function isBetween(value: number, min: number, max: number): boolean {
  return value >= min && value <= max;
}

function hasThreeDecimals(value: number): boolean {
  return Math.round(value * 1000) / 1000 === value;
}
