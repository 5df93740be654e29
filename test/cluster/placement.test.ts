import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { placeMember, withoutBundle } from '../../src/cluster/placement.ts';
import type { AgentOffer, ClusterSpec } from '../../src/cluster/types.ts';
import { mount, path, root, sampleOffer, sampleSpec } from './samples.ts';

const ids = { data: 'pid-data', backup: 'pid-backup' };
const place = (spec: ClusterSpec, offer: AgentOffer, agentsInUse: string[] = []) =>
  placeMember({ spec, ordinal: 1, agentsInUse, offer, newPersistenceIds: ids });
const failed = (result: ReturnType<typeof place>) =>
  result.stages.filter((stage) => !stage.isPassed).map((stage) => `${stage.name}: ${stage.reason}`);
const bundleOf = (result: ReturnType<typeof place>) => {
  if (result.kind === 'refused') throw new Error(failed(result).join('\n'));
  return result.bundle;
};
const withVolumes = (data: ClusterSpec['volumes']['data'], backup: ClusterSpec['volumes']['backup']) =>
  sampleSpec({ volumes: { data, backup } });

test('a member gets its cpus, memory, the three lowest ports, a whole mount disk and a part of a path disk', () => {
  expect(bundleOf(place(sampleSpec(), sampleOffer()))).toEqual({
    cpus: 0.3,
    memMb: 512,
    ports: { mysql: 31000, control: 31001, health: 31002 },
    data: { type: 'mount', path: '/m1', sizeMb: 1500, persistenceId: 'pid-data' },
    backup: { type: 'path', path: '/p1', sizeMb: 2000, persistenceId: 'pid-backup' },
  });
});

test('every stage is judged with its numbers although the first one fails', () => {
  const spec = sampleSpec({ placement: { spread: 'agent', attributes: { rack: 'b', zone: 'x' } } });
  const offer = sampleOffer({ cpus: 0.2, memMb: 100, ports: [{ begin: 5, end: 6 }], disks: [], isUnavailable: true });

  expect(failed(place(spec, offer, ['agent-1']))).toEqual([
    'spread: Another member of orders is on host-1: member 1 needs its own agent',
    'attributes: 2 of 2 wanted attributes do not match: rack=b (is a), zone=x (is not set)',
    'maintenance: Maintenance is scheduled for host-1',
    'cpus: 0.3 cpus wanted, 0.2 offered',
    'mem: 512 MB of memory wanted, 100 offered',
    'ports: 3 ports wanted, 2 offered',
    'data: 1000 MB on a mount disk wanted, none is offered',
    'backup: 2000 MB on a path disk beside the one for the data wanted, none is offered',
  ]);
});

test('a placement tells the reasons of all eight stages as well', () => {
  const { stages } = place(sampleSpec(), sampleOffer());

  expect(stages.map((stage) => stage.name)).toEqual([
    'spread',
    'attributes',
    'maintenance',
    'cpus',
    'mem',
    'ports',
    'data',
    'backup',
  ]);
  expect(stages.at(-2)?.reason).toBe('1000 MB on a mount disk wanted, 1500 of 1500 MB taken /m1');
});

test('cpus are compared in thousandths: 0.1 + 0.2 is enough for 0.3', () => {
  expect(place(sampleSpec(), sampleOffer({ cpus: 0.1 + 0.2 })).kind).toBe('placed');
  expect(place(sampleSpec(), sampleOffer({ cpus: 0.299 })).kind).toBe('refused');
});

test('members may share an agent when the spread says so', () => {
  const spec = sampleSpec({ placement: { spread: 'none', attributes: { rack: 'a' } } });

  expect(place(spec, sampleOffer(), ['agent-1']).kind).toBe('placed');
});

test('an attribute named like a built-in property is not found by accident', () => {
  const spec = sampleSpec({ placement: { spread: 'agent', attributes: { constructor: 'x' } } });

  expect(failed(place(spec, sampleOffer()))[0]).toContain('constructor=x (is not set)');
});

test('ports are gathered from several ranges, lowest first, never twice', () => {
  const ports = [
    { begin: 9, end: 9 },
    { begin: 7, end: 7 },
    { begin: 7, end: 8 },
  ];

  expect(bundleOf(place(sampleSpec(), sampleOffer({ ports }))).ports).toEqual({ mysql: 7, control: 8, health: 9 });
});

describe('disks', () => {
  test('of several mount disks the smallest that is large enough is taken whole', () => {
    const disks = [mount('/big', 9000), mount('/small', 999), mount('/fit', 1001), path('/p1', 2000)];

    expect(bundleOf(place(sampleSpec(), sampleOffer({ disks }))).data).toMatchObject({ path: '/fit', sizeMb: 1001 });
  });

  test('data and backup never share a mount disk, however large', () => {
    const spec = withVolumes({ type: 'mount', sizeMb: 100 }, { type: 'mount', sizeMb: 100 });

    const result = place(spec, sampleOffer({ disks: [mount('/m1', 9000)] }));

    expect(failed(result)).toEqual([
      'backup: 100 MB on a mount disk beside the one for the data wanted, none is offered',
    ]);
  });

  test('data and backup never share a path disk, however large', () => {
    const spec = withVolumes({ type: 'path', sizeMb: 100 }, { type: 'path', sizeMb: 100 });

    expect(place(spec, sampleOffer({ disks: [path('/p1', 9000)] })).kind).toBe('refused');
    const bundle = bundleOf(place(spec, sampleOffer({ disks: [path('/p1', 100), path('/p2', 9000)] })));
    expect([bundle.data.path, bundle.backup?.path]).toEqual(['/p1', '/p2']);
  });

  test('data and backup may share the root disk when it holds both', () => {
    const spec = withVolumes({ type: 'root', sizeMb: 600 }, { type: 'root', sizeMb: 400 });

    expect(place(spec, sampleOffer({ disks: [root(1000)] })).kind).toBe('placed');
    expect(failed(place(spec, sampleOffer({ disks: [root(999)] })))).toEqual([
      'backup: 400 MB on a root disk wanted, the largest of 1 has 399 MB',
    ]);
  });

  test('without a backup volume only the data volume is placed', () => {
    const result = place(withVolumes({ type: 'root', sizeMb: 100 }, null), sampleOffer({ disks: [root(100)] }));

    expect(bundleOf(result).backup).toBeNull();
  });

  test('taking the smallest disk first never misses a pair that fits', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 4 });
    fc.assert(
      fc.property(
        sizes,
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom('mount' as const, 'path' as const),
        (list, dataMb, backupMb, type) => {
          const make = type === 'mount' ? mount : path;
          const disks = list.map((sizeMb, index) => make(`/d${index}`, sizeMb));
          const isPossible = list.some((d, i) => d >= dataMb && list.some((b, j) => j !== i && b >= backupMb));

          const result = place(
            withVolumes({ type, sizeMb: dataMb }, { type, sizeMb: backupMb }),
            sampleOffer({ disks }),
          );

          expect(result.kind).toBe(isPossible ? 'placed' : 'refused');
        },
      ),
    );
  });
});

test('what is left after a placement lacks exactly the bundle', () => {
  const offer = sampleOffer();
  const rest = withoutBundle(offer, bundleOf(place(sampleSpec(), offer)));

  expect(rest).toEqual({
    ...offer,
    cpus: 1.7,
    memMb: 1536,
    ports: [{ begin: 31003, end: 31010 }],
    disks: [root(5000), path('/p1', 2000)],
  });
});
