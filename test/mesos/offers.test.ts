import { describe, expect, test } from 'vitest';
import type { Bundle } from '../../src/cluster/types.ts';
import { accept } from '../../src/mesos/calls.ts';
import { findOffersOfVolumes, findOurReservations, findReserved, toAgentOffer } from '../../src/mesos/offers.ts';
import {
  acceptForNewMember,
  bundleResources,
  coversBundle,
  releaseOperations,
  taskInfo,
} from '../../src/mesos/operations.ts';
import { add, contains, subtract } from '../../src/mesos/resources.ts';
import { schedulerCall } from '../../src/mesos/scheduler-api.ts';
import { type Offer, offer as offerSchema, type Resource } from '../../src/mesos/types.ts';
import goldenAccept from './accept.golden.json' with { type: 'json' };

const bundle: Bundle = {
  cpus: 2,
  memMb: 2048,
  ports: { mysql: 31102, control: 31100, health: 31101 },
  data: { type: 'mount', path: '/disks/mount0', sizeMb: 256, persistenceId: 'data-1' },
  backup: { type: 'path', path: '/disks/path0', sizeMb: 1024, persistenceId: 'backup-1' },
};
const labels = { installation: 'i1', cluster: 'c1', member: '0', reservation: 'r1' };
const reservedBy = { role: 'mysql', principal: 'dbsvc', labels };
const resources = bundleResources(bundle, reservedBy);
const task = taskInfo({
  taskId: 'c1.0.l1',
  name: 'orders-0',
  agentId: 'S1',
  resources: resources.all,
  command: { value: 'node executor.js', user: 'mysql', uris: [{ value: 'http://127.0.0.1:1/e.tgz', extract: true }] },
  data: '{"version":1}',
  ports: bundle.ports,
});

const free: Resource[] = [
  { name: 'cpus', type: 'SCALAR', scalar: { value: 4 } },
  { name: 'mem', type: 'SCALAR', scalar: { value: 8192 } },
  { name: 'ports', type: 'RANGES', ranges: { range: [{ begin: 31000, end: 31999 }] } },
  { name: 'disk', type: 'SCALAR', scalar: { value: 10240 } },
  {
    name: 'disk',
    type: 'SCALAR',
    scalar: { value: 2048 },
    disk: { source: { type: 'PATH', path: { root: '/disks/path0' } } },
  },
  {
    name: 'disk',
    type: 'SCALAR',
    scalar: { value: 256 },
    disk: { source: { type: 'MOUNT', mount: { root: '/disks/mount0' } } },
  },
];
let count = 0;
const offer = (content: readonly Resource[], more: object = {}): Offer =>
  offerSchema.parse({
    id: { value: `O${count++}` },
    framework_id: { value: 'F' },
    agent_id: { value: 'S1' },
    hostname: 'node1',
    url: { scheme: 'http', address: { hostname: 'node1', ip: '10.0.0.1', port: 5051 }, path: '/slave(1)' },
    resources: content.map((resource) => ({ ...resource, allocation_info: { role: 'mysql' } })),
    ...more,
  });

describe('offers', () => {
  test('the unreserved part of all offers of an agent is added up', () => {
    const [cpus, ...rest] = free;
    const agentOffer = toAgentOffer([
      offer([...rest, ...resources.all], {
        attributes: [
          { name: 'rack', type: 'TEXT', text: { value: 'a' } },
          { name: 'slots', type: 'SCALAR', scalar: { value: 2 } },
        ],
      }),
      offer([cpus!, { name: 'cpus', type: 'SCALAR', scalar: { value: 0.1 } }]),
    ]);

    expect(agentOffer).toEqual({
      agentId: 'S1',
      hostname: 'node1',
      ip: '10.0.0.1',
      cpus: 4.1,
      memMb: 8192,
      ports: [{ begin: 31000, end: 31999 }],
      disks: [
        { type: 'root', path: null, sizeMb: 10240 },
        { type: 'path', path: '/disks/path0', sizeMb: 2048 },
        { type: 'mount', path: '/disks/mount0', sizeMb: 256 },
      ],
      attributes: { rack: 'a', slots: '2' },
      isUnavailable: false,
    });
  });

  test('maintenance of the agent is seen', () => {
    const planned = offer(free, { unavailability: { start: { nanoseconds: '1795192124871775200' } } });

    expect(toAgentOffer([offer([]), planned])?.isUnavailable).toBe(true);
  });

  test('an agent without an IPv4 address is none for us', () => {
    const url = { address: { hostname: 'node1', ip: '::1', port: 5051 } };

    expect(toAgentOffer([offer(free, { url })])).toBeNull();
    expect(toAgentOffer([])).toBeNull();
  });

  test('what is ours is found by its label, over several offers', () => {
    const other = bundleResources(bundle, { ...reservedBy, labels: { ...labels, reservation: 'r2' } });
    const offers = [offer(resources.all.slice(0, 2)), offer([...resources.all.slice(2), ...other.all, ...free])];

    expect(findReserved(offers, 'r1')).toEqual(add(resources.all));
    expect(findReserved(offers, 'r3')).toEqual([]);
    expect(findOurReservations(offers, 'i1').map(({ reservation, member }) => [reservation, member])).toEqual([
      ['r1', '0'],
      ['r2', '0'],
    ]);
    expect(findOurReservations(offers, 'i2')).toEqual([]);
  });

  test('the agent is found by its volumes', () => {
    const elsewhere = offer(free, { agent_id: { value: 'S2' } });
    const [token, rest] = [offer(task.resources), offer(task.executor!.resources)];

    expect(findOffersOfVolumes([elsewhere, token, rest], ['data-1'])).toEqual([token, rest]);
    expect(findOffersOfVolumes([elsewhere], ['data-1'])).toEqual([]);
  });

  test('a bundle is covered only by the union of token and executor part', () => {
    const [token, rest] = [offer(task.resources), offer(task.executor!.resources)];

    expect(coversBundle([token], resources.all)).toBe(false);
    expect(coversBundle([rest], resources.all)).toBe(false);
    expect(coversBundle([token, rest], resources.all)).toBe(true);
  });
});

describe('operations', () => {
  test('the ACCEPT of a first placement is as recorded', () => {
    const call = accept({
      offerIds: ['O1'],
      operations: acceptForNewMember(resources, task, 'r1'),
      refuseSeconds: 0.1,
    });

    expect(JSON.parse(JSON.stringify(call))).toEqual(goldenAccept);
    expect(schedulerCall.safeParse({ framework_id: { value: 'F' }, ...call }).success).toBe(true);
  });

  test('what is reserved comes out of free resources and what is launched out of the bundle', () => {
    expect(contains([...resources.plain], [...task.resources, ...resources.plain.slice(1)])).toBe(false);
    expect(subtract([...task.resources, ...task.executor!.resources], resources.all)).toEqual([]);
    expect(
      contains(
        free,
        resources.plain.map(({ reservations: _, ...resource }) => resource),
      ),
    ).toBe(true);
  });

  test('without a principal none is set', () => {
    expect(JSON.stringify(bundleResources(bundle, { role: 'mysql', labels }))).not.toContain('principal');
  });

  test('two volumes on one disk stay apart', () => {
    const root = { type: 'root', path: null, sizeMb: 10 } as const;
    const { plain, volumes } = bundleResources(
      { ...bundle, data: { ...root, persistenceId: 'a' }, backup: { ...root, persistenceId: 'b' } },
      reservedBy,
    );

    expect(add(plain).find(({ name }) => name === 'disk')?.scalar?.value).toBe(20);
    expect(add(volumes)).toHaveLength(2);
  });

  test('a bundle of the token alone is refused', () => {
    const small = bundleResources({ ...bundle, memMb: 16 }, reservedBy).all;

    expect(() =>
      taskInfo({
        taskId: 't',
        name: 'n',
        agentId: 'a',
        resources: small,
        command: { value: 'x' },
        data: '',
        ports: bundle.ports,
      }),
    ).toThrow('does not contain');
  });

  test('a release destroys the volumes and gives back everything, with the source of each disk', () => {
    const seen = findReserved([offer([...resources.all, ...free])], 'r1');

    const [destroy, unreserve] = releaseOperations(seen, 'r1');

    expect(destroy).toMatchObject({ type: 'DESTROY', id: { value: 'r1.destroy' } });
    expect(destroy?.type === 'DESTROY' && add(destroy.destroy.volumes)).toEqual(add(resources.volumes));
    expect(unreserve?.type === 'UNRESERVE' && subtract(unreserve.unreserve.resources, resources.plain)).toEqual([]);
  });

  test('nothing seen, nothing to release; static reservations are not ours to give back', () => {
    const fixed: Resource = { ...free[0]!, reservations: [{ type: 'STATIC', role: 'mysql' }] };

    expect(releaseOperations([])).toEqual([]);
    expect(releaseOperations([fixed])).toEqual([]);
  });
});
