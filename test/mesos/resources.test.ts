import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  add,
  contains,
  equalsIdentity,
  findFault,
  findRest,
  formatResources,
  isEmpty,
  normalise,
  popReservation,
  pushReservation,
  subtract,
  withoutAllocation,
  withoutVolume,
} from '../../src/mesos/resources.ts';
import type { Reservation, Resource } from '../../src/mesos/types.ts';

const cpus = (value: number): Resource => ({ name: 'cpus', type: 'SCALAR', scalar: { value } });
const ports = (...pairs: [number, number][]): Resource => ({
  name: 'ports',
  type: 'RANGES',
  ranges: { range: pairs.map(([begin, end]) => ({ begin, end })) },
});
const disk = (value: number, info?: Resource['disk']): Resource => ({
  name: 'disk',
  type: 'SCALAR',
  scalar: { value },
  ...(info && { disk: info }),
});
const mount = { source: { type: 'MOUNT', mount: { root: '/m' } } } as const;
const path = { source: { type: 'PATH', path: { root: '/p' } } } as const;
const by = (id: string): Reservation => ({
  type: 'DYNAMIC',
  role: 'mysql',
  principal: 'dbsvc',
  labels: {
    labels: [
      { key: 'bundle', value: id },
      { key: 'x', value: 'y' },
    ],
  },
});

const amount = fc.integer({ min: 1, max: 10_000_000 }).map((thousandths) => thousandths / 1000);
const rangePair = fc
  .tuple(fc.integer({ min: 1, max: 200 }), fc.nat(30))
  .map(([begin, length]): [number, number] => [begin, begin + length]);
const plain = fc.oneof(
  amount.map(cpus),
  amount.map((value) => disk(value, path)),
  fc.array(rangePair, { minLength: 1, maxLength: 5 }).map((pairs) => ports(...pairs)),
);
const anyResource = fc
  .tuple(plain, fc.option(fc.constantFrom('u1', 'u2')))
  .map(([resource, label]) => (label === null ? resource : pushReservation(resource, by(label))));
const lists = fc.array(anyResource, { maxLength: 6 });
/** A list whose ranges do not overlap with another one's: ranges are sets, so adding what is there already adds nothing. */
const high = lists.map((resources) =>
  resources.map((resource) =>
    resource.ranges
      ? {
          ...resource,
          ranges: { range: resource.ranges.range.map(({ begin, end }) => ({ begin: begin + 1000, end: end + 1000 })) },
        }
      : resource,
  ),
);
const asSet = (resources: Resource[]) => new Set(resources.map((resource) => formatResources([resource])));

describe('properties', () => {
  test('subtracting after adding gives back what was there', () => {
    fc.assert(
      fc.property(lists, high, (a, b) => {
        expect(asSet(subtract(add(a, b), b))).toEqual(asSet(add(a)));
      }),
    );
  });

  test('a sum contains its parts and does not depend on the order', () => {
    fc.assert(
      fc.property(lists, lists, (a, b) => {
        const sum = add(a, b);

        expect(contains(sum, a)).toBe(true);
        expect(contains(sum, b)).toBe(true);
        expect(asSet(sum)).toEqual(asSet(add(b, a)));
      }),
    );
  });

  test('what is contained leaves nothing exactly if it contains the other way round', () => {
    fc.assert(
      fc.property(lists, lists, (a, b) => {
        const rest = findRest(a, b);

        if (rest !== null) expect(rest.length === 0).toBe(contains(b, a));
      }),
    );
  });

  test('nothing empty and nothing unnormalised comes out', () => {
    fc.assert(
      fc.property(lists, lists, (a, b) => {
        for (const resource of [...add(a, b), ...(findRest(a, b) ?? [])]) {
          expect(isEmpty(resource)).toBe(false);
          expect(normalise(resource)).toEqual(resource);
        }
      }),
    );
  });
});

describe('scalars', () => {
  test('are fixed point', () => {
    const three = add([cpus(0.1)], [cpus(0.2)]);

    expect(three).toEqual([cpus(0.3)]);
    expect(subtract(three, [cpus(0.1), cpus(0.2)])).toEqual([]);
    expect(isEmpty(cpus(0.0004))).toBe(true);
  });

  test('that are missing are said in words', () => {
    expect(() => subtract([cpus(1)], [cpus(1.001)])).toThrow('cpus:1 does not contain cpus:1.001');
  });
});

describe('ranges', () => {
  test('are joined, cut and compared as sets of numbers', () => {
    expect(add([ports([5, 6], [1, 2]), ports([3, 4])])).toEqual([ports([1, 6])]);
    expect(subtract([ports([31000, 31999])], [ports([31100, 31109], [31000, 31000])])).toEqual([
      ports([31001, 31099], [31110, 31999]),
    ]);
    expect(contains([ports([1, 5])], [ports([5, 6])])).toBe(false);
  });
});

describe('identity', () => {
  test('the order of labels does not matter, their content does', () => {
    const turned: Reservation = { ...by('u1'), labels: { labels: [...by('u1').labels!.labels].reverse() } };

    expect(equalsIdentity(pushReservation(cpus(1), by('u1')), pushReservation(cpus(2), turned))).toBe(true);
    expect(add([pushReservation(cpus(1), by('u1'))], [pushReservation(cpus(1), by('u2'))])).toHaveLength(2);
  });

  test('allocation, container path and the principal of a volume do not matter', () => {
    const offered = {
      ...disk(5, { persistence: { id: 'v', principal: 'p' }, volume: { mode: 'RW', container_path: 'old' } }),
      allocation_info: { role: 'mysql' },
    } as const;
    const ours = disk(5, { persistence: { id: 'v' }, volume: { mode: 'RW', container_path: 'data' } });

    expect(contains([offered], [ours])).toBe(true);
    expect(withoutAllocation(offered)).not.toHaveProperty('allocation_info');
  });

  test('the form before reservation refinement is the same resource', () => {
    const old: Resource = { ...cpus(1), role: 'mysql', reservation: { principal: 'dbsvc' } };

    expect(equalsIdentity(old, pushReservation(cpus(1), { type: 'DYNAMIC', role: 'mysql', principal: 'dbsvc' }))).toBe(
      true,
    );
    expect(normalise({ ...cpus(1), role: '*' })).toEqual(cpus(1));
  });
});

describe('disks', () => {
  test('a mount disk is taken whole', () => {
    expect(contains([disk(256, mount)], [disk(100, mount)])).toBe(false);
    expect(subtract([disk(256, mount)], [disk(256, mount)])).toEqual([]);
    expect(add([disk(256, mount)], [disk(256, mount)])).toHaveLength(2);
  });

  test('a path disk splits, a volume on it does not', () => {
    const volume = disk(100, { ...path, persistence: { id: 'v' } });

    expect(subtract([disk(256, path)], [disk(100, path)])).toEqual([disk(156, path)]);
    expect(contains([volume], [disk(50, { ...path, persistence: { id: 'v' } })])).toBe(false);
    expect(contains([disk(256, path)], [volume])).toBe(false);
    expect(add([volume], [volume])).toHaveLength(2);
  });

  test('destroy and unreserve leave the source', () => {
    const reserved = pushReservation(disk(256, mount), by('u1'));
    const volume = { ...reserved, disk: { ...mount, persistence: { id: 'v' }, volume: { container_path: 'data' } } };

    expect(withoutVolume(volume)).toEqual(reserved);
    expect(popReservation(reserved)).toEqual(disk(256, mount));
    expect(withoutVolume(disk(1, { persistence: { id: 'v' } }))).toEqual(disk(1));
  });
});

test('text is as Mesos prints it', () => {
  const label: Reservation = { ...by(''), labels: { labels: [{ key: 'bundle', value: 'uX' }] } };
  const volume = disk(100, { persistence: { id: 'rv' }, volume: { container_path: 'rootvol' } });
  const reserved = { ...pushReservation(cpus(0.5), label), allocation_info: { role: 'mysql' } };

  expect(formatResources([ports([1, 2], [4, 4]), reserved, disk(256, mount)])).toBe(
    'ports:[1-2, 4-4]; cpus(allocated: mysql)(reservations: [(DYNAMIC,mysql,dbsvc,{bundle: uX})]):0.5; disk[MOUNT:/m]:256',
  );
  expect(formatResources([volume])).toBe('disk[rv:rootvol]:100');
});

test('unknown fields of a resource survive', () => {
  const offered = { ...cpus(1), future: { x: 1 } } as Resource;

  expect(subtract([{ ...offered, scalar: { value: 2 } }], [cpus(1)])).toEqual([offered]);
});

test.each<[string, Resource]>([
  ['negative', cpus(-1)],
  ['rounds to zero', cpus(0.0004)],
  ['not a number', cpus(Number.NaN)],
  ['begins after its end', ports([5, 4])],
  ['overlaps', ports([1, 3], [3, 4])],
  ['a scalar without a value', { name: 'cpus', type: 'SCALAR' }],
  ['two values', { ...cpus(1), ranges: { range: [] } }],
  ['disk on cpus', { ...cpus(1), disk: path }],
])('a resource that is %s is faulty', (_, resource) => {
  expect(findFault(resource)).not.toBeNull();
});

test('sound resources have no fault', () => {
  expect([cpus(0.1), ports([1, 2], [4, 5]), disk(1, mount), disk(1, path)].map(findFault)).toEqual([
    null,
    null,
    null,
    null,
  ]);
});
