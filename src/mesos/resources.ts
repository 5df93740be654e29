/**
 * Resource algebra as in Mesos' src/common/resources.cpp, used by the scheduler and by the strict local master.
 * - Scalars are fixed point with three decimals; everything else would drift (0.1 + 0.2).
 * - Resources add up only with equal identity; other reservation labels never merge, equal ones always do.
 * - A persistent volume never adds and is subtracted only whole; so is a MOUNT disk.
 * - Identity ignores disk.volume (container_path may change per launch), persistence.principal, and allocation_info.
 */
import { coalesceRanges, containsRanges, hasOverlap, subtractRanges } from './ranges.ts';
import type { DiskSource, Labels, Reservation, Resource } from './types.ts';

const SCALE = 1000;
export const toFixedPoint = (value: number): number => Math.round(value * SCALE);
const fromFixedPoint = (thousandths: number): number => thousandths / SCALE;
const round = (value: number): number => fromFixedPoint(toFixedPoint(value));

/** Rounds scalars, joins ranges, turns the form before RESERVATION_REFINEMENT into `reservations`. Keeps all else. */
export function normalise(resource: Resource): Resource {
  const { role, reservation, reservations, ...rest } = resource;
  const result: Resource = rest;
  const upgraded =
    reservations ??
    (role !== undefined && role !== '*'
      ? [{ type: reservation ? 'DYNAMIC' : 'STATIC', role, ...reservation } as const]
      : []);
  if (upgraded.length > 0) result.reservations = upgraded;
  if (result.scalar) result.scalar = { value: round(result.scalar.value) };
  if (result.ranges) result.ranges = { range: coalesceRanges(result.ranges.range) };
  if (result.set) result.set = { item: [...new Set(result.set.item)].sort() };
  return result;
}

/** Allocation is not part of a resource's identity here, and the operator API refuses it. */
export function withoutAllocation(resource: Resource): Resource {
  if (resource.allocation_info === undefined) return resource;
  const { allocation_info: _, ...rest } = resource;
  return rest;
}

const labelsKey = (labels: Labels | undefined): string[] =>
  (labels?.labels ?? []).map(({ key, value }) => JSON.stringify([key, value ?? null])).sort();

const reservationKey = ({ type, role, principal, labels }: Reservation) => [
  type ?? null,
  role ?? null,
  principal ?? null,
  labelsKey(labels),
];

const sourceKey = (source: DiskSource | undefined) =>
  source && [
    source.type,
    source.path?.root ?? null,
    source.mount?.root ?? null,
    source.id ?? null,
    source.profile ?? null,
    source.vendor ?? null,
  ];

/** Resources are values, and are compared far more often than made: every offer and total, at every allocation. */
const known = new WeakMap<Resource, Known>();

interface Known {
  readonly normal: Resource;
  readonly key: string;
  readonly isEmpty: boolean;
}

function know(resource: Resource): Known {
  const before = known.get(resource);
  if (before) return before;
  const normal = normalise(resource);
  const made = { normal, key: makeKey(normal), isEmpty: isEmpty(normal) };
  known.set(resource, made);
  known.set(normal, made);
  return made;
}

/** Of a normalised resource whose key is that of another one. */
function withKey(normal: Resource, key: string): Resource {
  known.set(normal, { normal, key, isEmpty: isEmpty(normal) });
  return normal;
}

/** Equal keys = same identity. */
const identityKey = (resource: Resource): string => know(resource).key;

function makeKey(normal: Resource): string {
  const { name, type, reservations, disk, provider_id, revocable, shared } = normal;
  return JSON.stringify([
    name,
    type,
    (reservations ?? []).map(reservationKey),
    disk?.persistence?.id ?? null,
    sourceKey(disk?.source) ?? null,
    provider_id?.value ?? null,
    revocable !== undefined,
    shared !== undefined,
  ]);
}

export const equalsIdentity = (a: Resource, b: Resource): boolean => identityKey(a) === identityKey(b);

/** Only whole: persistent volumes and disks that Mesos cannot split. */
const isIndivisible = ({ disk }: Resource): boolean =>
  disk?.persistence !== undefined || ['MOUNT', 'BLOCK', 'RAW'].includes(disk?.source?.type ?? '');

export function isEmpty({ type, scalar, ranges, set }: Resource): boolean {
  if (type === 'SCALAR') return toFixedPoint(scalar?.value ?? 0) === 0;
  if (type === 'RANGES') return coalesceRanges(ranges?.range ?? []).length === 0;
  return type === 'SET' ? (set?.item.length ?? 0) === 0 : true;
}

const equalsValue = (a: Resource, b: Resource): boolean => containsValue(a, b) && containsValue(b, a);

function containsValue(all: Resource, part: Resource): boolean {
  if (all.type === 'SCALAR') return toFixedPoint(part.scalar?.value ?? 0) <= toFixedPoint(all.scalar?.value ?? 0);
  if (all.type === 'RANGES') return containsRanges(all.ranges?.range ?? [], part.ranges?.range ?? []);
  return (part.set?.item ?? []).every((item) => all.set?.item.includes(item));
}

function combine(a: Resource, b: Resource, sign: 1 | -1): Resource {
  if (a.type === 'SCALAR') {
    const sum = toFixedPoint(a.scalar?.value ?? 0) + sign * toFixedPoint(b.scalar?.value ?? 0);
    return { ...a, scalar: { value: fromFixedPoint(sum) } };
  }
  if (a.type === 'RANGES') {
    const [mine, other] = [a.ranges?.range ?? [], b.ranges?.range ?? []];
    return { ...a, ranges: { range: sign === 1 ? coalesceRanges([...mine, ...other]) : subtractRanges(mine, other) } };
  }
  const [mine, other] = [a.set?.item ?? [], b.set?.item ?? []];
  const items = sign === 1 ? [...new Set([...mine, ...other])] : mine.filter((item) => !other.includes(item));
  return { ...a, set: { item: items.sort() } };
}

/** Sum of all lists: normalised, merged by identity, empty ones dropped. */
export function add(...lists: readonly (readonly Resource[])[]): Resource[] {
  const sum: Resource[] = [];
  const places = new Map<string, number>();
  for (const resource of lists.flat()) {
    const { normal: next, key, isEmpty: isNothing } = know(resource);
    if (isNothing) continue;
    const place = isIndivisible(next) ? undefined : places.get(key);
    if (place !== undefined) {
      sum[place] = withKey(combine(sum[place]!, next, 1), key);
      continue;
    }
    places.set(key, sum.length);
    sum.push(next);
  }
  return sum;
}

/** What is left of `all` without `part`; null if `part` is not contained. */
export function findRest(all: readonly Resource[], part: readonly Resource[]): Resource[] | null {
  const rest = add(all);
  for (const wanted of add(part)) {
    const key = identityKey(wanted);
    const place = rest.findIndex(
      (mine) =>
        identityKey(mine) === key && (isIndivisible(mine) ? equalsValue(mine, wanted) : containsValue(mine, wanted)),
    );
    if (place === -1) return null;
    const left = withKey(combine(rest[place]!, wanted, -1), key);
    if (know(left).isEmpty) rest.splice(place, 1);
    else rest[place] = left;
  }
  return rest;
}

export const contains = (all: readonly Resource[], part: readonly Resource[]): boolean => findRest(all, part) !== null;

/** Throws, in Mesos' words, if `part` is not contained. */
export function subtract(all: readonly Resource[], part: readonly Resource[]): Resource[] {
  const rest = findRest(all, part);
  if (!rest) throw new Error(`${formatResources(all)} does not contain ${formatResources(part)}`);
  return rest;
}

/** Why Mesos would refuse the resource as malformed; null if it is well formed. */
export function findFault(resource: Resource): string | null {
  const { name, type, scalar, ranges, set, disk } = resource;
  if (name === '') return 'Empty resource name';
  if (type === 'TEXT') return `Unsupported resource type of '${name}'`;
  if (type === 'SCALAR') {
    if (!scalar || ranges || set) return `Invalid scalar resource '${name}': expecting a scalar only`;
    // Zero is legal for Mesos but counts as empty; what only rounds to zero is refused like negative values.
    if (!Number.isFinite(scalar.value) || scalar.value < 0) return `Invalid scalar resource '${name}': value < 0`;
    if (scalar.value > 0 && toFixedPoint(scalar.value) === 0) return `Invalid scalar resource '${name}': value <= 0`;
  }
  if (type === 'RANGES') {
    if (!ranges || scalar || set) return `Invalid ranges resource '${name}': expecting ranges only`;
    if (ranges.range.some(({ begin, end }) => begin > end)) return `Invalid ranges resource '${name}': begin > end`;
    if (hasOverlap(ranges.range)) return `Invalid ranges resource '${name}': overlapping ranges`;
  }
  if (type === 'SET') {
    if (!set || scalar || ranges) return `Invalid set resource '${name}': expecting a set only`;
    if (new Set(set.item).size < set.item.length) return `Invalid set resource '${name}': duplicated elements`;
  }
  if (disk && name !== 'disk') return `DiskInfo should not be set for ${name} resource`;
  if (disk?.source?.type === 'PATH' && disk.source.mount) return "Unexpected 'mount' in a PATH disk source";
  if (disk?.source?.type === 'MOUNT' && (disk.source.path || !disk.source.mount))
    return "Expecting 'mount' in a MOUNT disk source";
  return null;
}

export const isReserved = (resource: Resource): boolean => (normalise(resource).reservations ?? []).length > 0;

export const isVolume = (resource: Resource): boolean => resource.disk?.persistence !== undefined;

export function pushReservation(resource: Resource, reservation: Reservation): Resource {
  const normal = normalise(resource);
  return { ...normal, reservations: [...(normal.reservations ?? []), reservation] };
}

/** What UNRESERVE makes of it: the innermost reservation is gone, the disk's source stays. */
export function popReservation(resource: Resource): Resource {
  const { reservations = [], ...rest } = normalise(resource);
  const left = reservations.slice(0, -1);
  return left.length > 0 ? { ...rest, reservations: left } : rest;
}

/** What DESTROY makes of a volume: plain disk, with its source (an UNRESERVE without the source is refused). */
export function withoutVolume(resource: Resource): Resource {
  const { disk, ...rest } = resource;
  return disk?.source ? { ...rest, disk: { source: disk.source } } : rest;
}

const formatReservation = ({ type, role, principal, labels }: Reservation): string => {
  const pairs = (labels?.labels ?? []).map(({ key, value }) => (value === undefined ? key : `${key}: ${value}`));
  const parts = [type ?? 'UNKNOWN', role ?? '', ...(principal === undefined ? [] : [principal])];
  return `(${[...parts, ...(labels ? [`{${pairs.join(', ')}}`] : [])].join(',')})`;
};

function formatDisk({ persistence, volume, source }: NonNullable<Resource['disk']>): string {
  const root = source?.path?.root ?? source?.mount?.root;
  const parts = [
    ...(source ? [root === undefined ? source.type : `${source.type}:${root}`] : []),
    ...(persistence ? [persistence.id] : []),
  ];
  return `[${parts.join(',')}${volume ? `:${volume.container_path}` : ''}]`;
}

/** As Mesos prints it: `cpus(allocated: mysql)(reservations: [(DYNAMIC,mysql,dbsvc,{bundle: u1})]):0.5`. */
export function formatResource(resource: Resource): string {
  const { name, type, scalar, ranges, set, reservations, allocation_info, disk } = normalise(resource);
  const allocated = allocation_info?.role === undefined ? '' : `(allocated: ${allocation_info.role})`;
  const reserved = reservations ? `(reservations: [${reservations.map(formatReservation).join(',')}])` : '';
  const value =
    type === 'SCALAR'
      ? String(scalar?.value ?? 0)
      : type === 'RANGES'
        ? `[${(ranges?.range ?? []).map(({ begin, end }) => `${begin}-${end}`).join(', ')}]`
        : `{${(set?.item ?? []).join(', ')}}`;
  return `${name}${allocated}${reserved}${disk ? formatDisk(disk) : ''}:${value}`;
}

export const formatResources = (resources: readonly Resource[]): string =>
  resources.length === 0 ? '{}' : resources.map(formatResource).join('; ');
