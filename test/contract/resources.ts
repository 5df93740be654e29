/**
 * Resources as short text, the way the golden files write them, so that a person can read an offer in one line:
 *   cpus:4   ports:31000-31099,31110-31999   cpus(dbsvc;bundle=u1):1.9   disk(dbsvc)[mount0 data-u1:data]:256
 * (principal;labels) is a dynamic reservation for the role mysql, path0 and mount0 are the agent's one PATH and one MOUNT disk.
 * Written apart from src/mesos/resources.ts on purpose: a judge must not share the arithmetic of the judged.
 */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** Directories behind path0 and mount0 on one agent. */
export interface DiskRoots {
  readonly path0?: string;
  readonly mount0?: string;
}

const role = 'mysql';
const pattern = /^(\w+)(?:\(([^)]*)\))?(?:\[([^\]]*)\])?:(.+)$/;

export const asObject = (value: Json | undefined): JsonObject =>
  value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as JsonObject) : {};
export const asList = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? value : []);
export const asText = (value: Json | undefined): string => (typeof value === 'string' ? value : '');

/** Follows a dotted path; undefined when a part is missing. */
export function dig(value: Json | undefined, path: string): Json | undefined {
  return path.split('.').reduce<Json | undefined>((at, key) => asObject(at)[key], value);
}

/** One Mesos resource as text. Allocation is left out: the golden files have one role only. */
export function toText(resource: Json): string {
  const name = asText(dig(resource, 'name'));
  return `${name}${reservationText(resource)}${diskText(resource)}:${valueText(resource)}`;
}

function reservationText(resource: Json): string {
  const stack = asList(dig(resource, 'reservations'));
  if (stack.length === 0) return '';
  const last = stack.at(-1);
  const labels = asList(dig(last, 'labels.labels')).map(
    (label) => `${asText(dig(label, 'key'))}=${asText(dig(label, 'value'))}`,
  );
  const depth = stack.length > 1 ? `refined ${stack.length} ` : '';
  return `(${depth}${[asText(dig(last, 'principal')), ...labels].join(';')})`;
}

function diskText(resource: Json): string {
  const disk = dig(resource, 'disk');
  if (disk === undefined) return '';
  const source = dig(disk, 'source.type');
  const where = source === 'PATH' ? 'path0' : source === 'MOUNT' ? 'mount0' : 'root';
  const id = dig(disk, 'persistence.id');
  if (id === undefined) return `[${where}]`;
  return `[${where} ${asText(id)}:${asText(dig(disk, 'volume.container_path'))}]`;
}

function valueText(resource: Json): string {
  const scalar = dig(resource, 'scalar.value');
  if (typeof scalar === 'number') return String(Math.round(scalar * 1000) / 1000);
  return asList(dig(resource, 'ranges.range'))
    .map((range) => `${Number(dig(range, 'begin'))}-${Number(dig(range, 'end'))}`)
    .join(',');
}

/** The JSON of a text resource, allocated to the role. */
export function fromText(text: string, roots: DiskRoots): JsonObject {
  const [, name, reserved, disk, value] = pattern.exec(text) ?? [];
  if (!name || !value) throw new Error(`not a resource: ${text}`);
  const ranges = value.split(',').map((range) => range.split('-').map(Number));
  return {
    name,
    ...(name === 'ports'
      ? { type: 'RANGES', ranges: { range: ranges.map(([begin, end]) => ({ begin: begin!, end: end! })) } }
      : { type: 'SCALAR', scalar: { value: Number(value) } }),
    allocation_info: { role },
    ...(reserved === undefined ? {} : { reservations: [reservation(reserved)] }),
    ...(disk === undefined ? {} : { disk: diskInfo(disk, reserved ?? '', roots) }),
  };
}

function reservation(text: string): JsonObject {
  const [principal, ...labels] = text.split(';');
  const pairs = labels.map((label) => {
    const [key, value] = label.split('=');
    return { key: key!, value: value! };
  });
  return {
    type: 'DYNAMIC',
    role,
    ...(principal ? { principal } : {}),
    ...(pairs.length > 0 ? { labels: { labels: pairs } } : {}),
  };
}

function diskInfo(text: string, reserved: string, roots: DiskRoots): JsonObject {
  const [where, volume] = text.split(' ');
  const principal = reserved.split(';')[0]!;
  const [id, containerPath] = volume?.split(':') ?? [];
  const source =
    where === 'path0'
      ? { source: { type: 'PATH', path: { root: roots.path0 ?? '/none/path0' } } }
      : where === 'mount0'
        ? { source: { type: 'MOUNT', mount: { root: roots.mount0 ?? '/none/mount0' } } }
        : {};
  if (!id) return source;
  const persistence = { id, ...(principal ? { principal } : {}) };
  return { persistence, volume: { mode: 'RW', container_path: containerPath! }, ...source };
}

/** A bag of resources: amount per kind, in thousandths, ports one by one. Zero amounts are never kept. */
export class Bag {
  readonly amounts = new Map<string, number>();

  static of(texts: readonly string[]): Bag {
    const bag = new Bag();
    for (const text of texts) bag.change(text, 1);
    return bag;
  }

  add(texts: readonly string[]): void {
    for (const text of texts) this.change(text, 1);
  }

  remove(texts: readonly string[]): void {
    for (const text of texts) this.change(text, -1);
  }

  private change(text: string, sign: 1 | -1): void {
    const cut = text.lastIndexOf(':');
    const [kind, value] = [text.slice(0, cut), text.slice(cut + 1)];
    if (!kind.startsWith('ports')) this.bump(kind, sign * Math.round(Number(value) * 1000));
    else
      for (const range of value.split(',')) {
        const [begin, end] = range.split('-').map(Number);
        for (let port = begin!; port <= end!; port++) this.bump(`${kind} ${port}`, sign);
      }
  }

  private bump(key: string, by: number): void {
    const next = (this.amounts.get(key) ?? 0) + by;
    if (next === 0) this.amounts.delete(key);
    else this.amounts.set(key, next);
  }

  equals(other: Bag): boolean {
    return this.contains(other) && other.contains(this);
  }

  contains(other: Bag): boolean {
    return [...other.amounts].every(([key, amount]) => (this.amounts.get(key) ?? 0) >= amount);
  }

  /** For people: sorted, ports folded into a count. */
  toString(): string {
    const ports = new Map<string, number>();
    const parts: string[] = [];
    for (const [key, amount] of this.amounts) {
      if (!key.startsWith('ports')) parts.push(`${key}:${amount / 1000}`);
      else ports.set(key.split(' ')[0]!, (ports.get(key.split(' ')[0]!) ?? 0) + amount);
    }
    for (const [kind, count] of ports) parts.push(`${kind}:${count} ports`);
    return parts.sort().join('; ') || '(nothing)';
  }
}
