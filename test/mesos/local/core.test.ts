import { expect, test } from 'vitest';
import {
  cutSeat,
  failOverMaster,
  killSeat,
  mendSeat,
  rebootSeat,
  startSeat,
} from '../../../src/mesos/local/core/cluster.ts';
import { answerOperator } from '../../../src/mesos/local/core/operator.ts';
import { bundle, type Event } from './scheduler.ts';
import { connect, createWorld, executor, roots, show } from './world.ts';

const AGENT = '127.0.0.11:5051';
const WHOLE = 'cpus:4; disk:10240; disk[MOUNT]:256; disk[PATH]:2048; mem:8192; ports:31000-31999';
const shellCommand = { shell: true, value: 'run' };
const reserved = (uuid: string, value = 0.5, name = 'cpus') => ({
  name,
  type: 'SCALAR',
  scalar: { value },
  reservations: [
    { type: 'DYNAMIC', role: 'mysql', principal: 'dbsvc', labels: { labels: [{ key: 'bundle', value: uuid }] } },
  ],
});
const reserve = (resource: unknown, id?: string) => ({
  type: 'RESERVE',
  reserve: { resources: [resource] },
  ...(id ? { id: { value: id } } : {}),
});
const unreserve = (resource: unknown, id?: string) => ({
  type: 'UNRESERVE',
  unreserve: { resources: [resource] },
  ...(id ? { id: { value: id } } : {}),
});
const states = (events: Event[]) =>
  events
    .filter(({ type }) => type !== 'HEARTBEAT' && type !== 'OFFERS')
    .map((event) => {
      const status = event.update?.status ?? event.update_operation_status?.status;
      if (!status) return event.type;
      return [status.task_id?.value ?? status.operation_id?.value, status.state, status.reason]
        .filter(Boolean)
        .join(' ');
    });

/** World with the bundle u1 launched as t1, which runs; all earlier events are taken. */
function running() {
  const world = createWorld();
  const scheduler = connect(world);
  const [offer] = scheduler.takeOffers();
  const { reserve: reserveBundle, create, launch } = bundle('u1', roots);
  scheduler.accept([offer], [reserveBundle, create, launch('t1', offer.agent_id.value, shellCommand)]);
  const process = executor(world, scheduler.id, 't1');
  process.subscribe();
  process.update('t1', 'TASK_RUNNING');
  const status = scheduler.take().find(({ update }) => update)?.update.status;
  acknowledge(scheduler, status);
  for (const { statusUuid, operationId } of world.checkpoints.get(AGENT)?.operations ?? [])
    scheduler.call({
      type: 'ACKNOWLEDGE_OPERATION_STATUS',
      acknowledge_operation_status: {
        agent_id: offer.agent_id,
        operation_id: { value: operationId },
        uuid: statusUuid,
      },
    });
  world.clock.advance(5);
  return { world, scheduler, process, agentId: offer.agent_id.value as string, offer };
}

function acknowledge(scheduler: { call(body: Record<string, unknown>): unknown }, status: Event): void {
  const { agent_id, task_id, uuid } = status;
  scheduler.call({ type: 'ACKNOWLEDGE', acknowledge: { agent_id, task_id, uuid } });
}

test('SUBSCRIBED, HEARTBEAT and the first offer come at once', () => {
  const scheduler = connect(createWorld());

  const events = scheduler.take();

  expect(events.map(({ type }) => type)).toEqual(['SUBSCRIBED', 'HEARTBEAT', 'OFFERS']);
  expect(show(events[2].offers.offers[0])).toBe(WHOLE);
});

test('a declined offer comes back at the first batch after its filter', () => {
  const world = createWorld();
  const scheduler = connect(world);
  let offer_ids = scheduler.takeOffers().map(({ id }: Event) => id);
  /** Seconds from the DECLINE to the next offer. */
  const look = (refuse_seconds?: number) => {
    const filters = refuse_seconds === undefined ? {} : { filters: { refuse_seconds } };
    scheduler.call({ type: 'DECLINE', decline: { offer_ids, ...filters } });
    for (let seconds = 1; seconds < 20; seconds += 1) {
      world.clock.advance(1000);
      offer_ids = scheduler.takeOffers().map(({ id }: Event) => id);
      if (offer_ids.length > 0) return seconds;
    }
    return null;
  };

  expect(look(0)).toBe(1);
  expect(look(0.1)).toBe(2);
  expect(look()).toBe(6);
  expect(look(-1)).toBe(6);
  expect(look(3600)).toBe(null);
});

test('REVIVE clears filters and offers at once; SUPPRESS stops offers and leaves the outstanding ones', () => {
  const world = createWorld();
  const scheduler = connect(world);
  const [first] = scheduler.takeOffers();
  scheduler.call({ type: 'SUPPRESS' });
  expect(world.cluster.master.offers.has(first.id.value)).toBe(true);
  scheduler.call({ type: 'DECLINE', decline: { offer_ids: [first.id], filters: { refuse_seconds: 600 } } });
  world.clock.advance(10_000);
  expect(scheduler.takeOffers()).toEqual([]);

  scheduler.call({ type: 'REVIVE' });
  world.clock.advance(1);

  expect(scheduler.takeOffers()).toHaveLength(1);
});

test('a filter no longer matches when more than was refused is free', () => {
  const { world, scheduler, process, agentId } = running();
  world.clock.advance(1000);
  const [rest] = scheduler.takeOffers();
  scheduler.call({ type: 'DECLINE', decline: { offer_ids: [rest.id], filters: { refuse_seconds: 600 } } });
  world.clock.advance(3000);
  expect(scheduler.takeOffers()).toEqual([]);

  process.exit(9);
  world.clock.advance(1000);

  const [offer] = scheduler.takeOffers();
  expect(offer.agent_id.value).toBe(agentId);
  expect(show(offer)).toContain('disk(u1)[data-u1]:256');
  expect(show(offer)).toContain('mem:6144');
});

test('what is too small is not offered, unless the framework says that everything is allocatable', () => {
  const disk = { name: 'disk', type: 'SCALAR' as const, scalar: { value: 100 } };

  expect(connect(createWorld({ resources: [disk] })).takeOffers()).toEqual([]);
  const offer_filters = { mysql: { min_allocatable_resources: { quantities: [] } } };
  expect(connect(createWorld({ resources: [disk] }), { offer_filters }).takeOffers()).toHaveLength(1);
});

test('what is reserved goes to its role only', () => {
  const world = createWorld();
  const scheduler = connect(world);
  scheduler.accept(scheduler.takeOffers(), [reserve(reserved('u1'))]);
  scheduler.call({ type: 'SUPPRESS' });
  const stranger = connect(world, { name: 'other', roles: ['other'] });
  world.clock.advance(1000);

  const offers = stranger.takeOffers();

  expect(show(offers[0])).toContain('cpus:3.5');
  expect(show(offers[0])).not.toContain('(u1)');
});

test('equal labels merge, other labels stay apart, and a repeated UNRESERVE of a merged one takes the other half', () => {
  const world = createWorld();
  const scheduler = connect(world);
  scheduler.accept(scheduler.takeOffers(), [reserve(reserved('a')), reserve(reserved('a')), reserve(reserved('b'))]);
  world.clock.advance(1000);
  const [merged] = scheduler.takeOffers();
  expect(show(merged)).toContain('cpus(a):1; cpus(b):0.5; cpus:2.5');

  scheduler.accept(
    [merged],
    [unreserve(reserved('b')), unreserve(reserved('b'), 'again'), unreserve(reserved('a')), unreserve(reserved('a'))],
  );
  const events = scheduler.take();
  world.clock.advance(1000);

  expect(states(events)).toEqual(['again OPERATION_ERROR']);
  expect(events[0].update_operation_status.status.message).toContain('does not contain');
  expect(show(scheduler.takeOffers()[0])).toBe(WHOLE);
});

test('operations run in order, a failed one is skipped, and a launch that needed it is TASK_ERROR', () => {
  const world = createWorld();
  const scheduler = connect(world);
  const [offer] = scheduler.takeOffers();
  const { reserve: whole, create, launch } = bundle('u1', { ...roots, mount: '/elsewhere' });

  scheduler.accept(
    [offer],
    [whole, create, launch('t1', offer.agent_id.value, shellCommand), reserve(reserved('u2'), 'late')],
  );

  expect(states(scheduler.take())).toEqual([
    'reserve-u1 OPERATION_ERROR',
    'create-u1 OPERATION_ERROR',
    't1 TASK_ERROR REASON_TASK_INVALID',
    'late OPERATION_FINISHED',
  ]);
  world.clock.advance(2000);
  expect(show(scheduler.takeOffers()[0])).toContain('cpus(u2):0.5');
});

test('a MOUNT disk is taken whole or not at all; a PATH disk is split', () => {
  const world = createWorld();
  const scheduler = connect(world);
  const disk = (type: 'path' | 'mount', value: number) => ({
    ...reserved('u1', value, 'disk'),
    disk: { source: { type: type.toUpperCase(), [type]: { root: roots[type] } } },
  });

  scheduler.accept(scheduler.takeOffers(), [reserve(disk('mount', 100), 'part'), reserve(disk('path', 100), 'split')]);

  expect(states(scheduler.take())).toEqual(['part OPERATION_ERROR', 'split OPERATION_FINISHED']);
  world.clock.advance(2000);
  expect(show(scheduler.takeOffers()[0])).toContain('disk(u1)[PATH]:100; disk:10240; disk[MOUNT]:256; disk[PATH]:1948');
});

test('the same ACCEPT again while the task runs changes nothing', () => {
  const { world, scheduler, agentId } = running();
  world.clock.advance(1000);
  const { reserve: whole, create, launch } = bundle('u1', roots);

  scheduler.accept(scheduler.takeOffers(), [whole, create, launch('t1', agentId, shellCommand)]);

  expect(states(scheduler.take())).toEqual([
    'reserve-u1 OPERATION_ERROR',
    'create-u1 OPERATION_ERROR',
    't1 TASK_ERROR REASON_TASK_INVALID',
  ]);
  expect(world.cluster.master.frameworks.get(scheduler.id)?.tasks.get('t1')?.state).toBe('TASK_RUNNING');
});

test.each([
  ['none', () => []],
  ['twice the same', (ids: Event[]) => [ids[0], ids[0]]],
  ['one that never was', () => [{ value: 'nonsense' }]],
  ['of two agents', (ids: Event[]) => ids],
])('an ACCEPT of invalid offers (%s) drops the launch and answers operations with an id', (_name, pick) => {
  const world = createWorld({ agents: 2 });
  const scheduler = connect(world);
  const offers = scheduler.takeOffers();
  const { launch } = bundle('u1', roots);
  scheduler.call({
    type: 'ACCEPT',
    accept: {
      offer_ids: pick(offers.map(({ id }: Event) => id)),
      operations: [
        reserve(reserved('u1'), 'r'),
        reserve(reserved('u1')),
        launch('t1', offers[0].agent_id.value, shellCommand),
      ],
    },
  });

  expect(states(scheduler.take())).toEqual(['r OPERATION_ERROR', 't1 TASK_DROPPED REASON_INVALID_OFFERS']);
});

test('operation feedback is repeated until it is acknowledged, later and later', () => {
  const world = createWorld();
  const scheduler = connect(world);
  scheduler.accept(scheduler.takeOffers(), [reserve(reserved('u1'), 'r')]);
  const finished = () =>
    scheduler
      .take()
      .filter(({ type }) => type === 'UPDATE_OPERATION_STATUS')
      .map((event) => event.update_operation_status.status);
  const [first] = finished();
  world.clock.advance(10_000);
  expect(finished()).toEqual([first]);
  world.clock.advance(19_000);
  expect(finished()).toEqual([]);
  world.clock.advance(1100);
  expect(finished()).toEqual([first]);

  const { agent_id, operation_id, uuid } = first;
  scheduler.call({
    type: 'ACKNOWLEDGE_OPERATION_STATUS',
    acknowledge_operation_status: { agent_id, operation_id, uuid: uuid.value },
  });
  world.clock.advance(600_000);

  expect(finished()).toEqual([]);
});

test('one update of a task is in flight; the next waits for its acknowledgement; repetitions come after 10 s, then 20 s', () => {
  const { world, scheduler, process } = running();
  process.update('t1', 'TASK_KILLING');
  process.update('t1', 'TASK_KILLED');
  const [killing, ...none] = scheduler.take().filter(({ type }) => type === 'UPDATE');
  expect(none).toEqual([]);
  world.clock.advance(10_000);
  const [again] = scheduler.take().filter(({ type }) => type === 'UPDATE');
  expect(again).toEqual(killing);
  world.clock.advance(19_000);
  expect(states(scheduler.take())).toEqual([]);

  acknowledge(scheduler, killing.update.status);
  world.clock.advance(5);

  expect(states(scheduler.take())).toEqual(['t1 TASK_KILLED']);
});

test("a repeated update tells the master the newest state: the task's part is offered before the scheduler knows", () => {
  const { world, scheduler, process } = running();
  process.update('t1', 'TASK_KILLING');
  process.update('t1', 'TASK_KILLED');
  world.clock.advance(5000);
  expect(scheduler.takeOffers().map(show).join()).not.toContain('u1');

  world.clock.advance(6000);

  expect(scheduler.takeOffers().map(show)).toEqual(['cpus(u1):0.1; mem(u1):32']);
});

test("the executor's part is free when its process is gone, with FAILURE before the update", () => {
  const { world, scheduler, process } = running();
  world.clock.advance(1000);
  scheduler.take();

  process.exit(9);

  expect(states(scheduler.take())).toEqual(['FAILURE', 't1 TASK_FAILED REASON_EXECUTOR_TERMINATED']);
  world.clock.advance(1000);
  const [offer] = scheduler.takeOffers();
  expect(show(offer)).toBe(
    'cpus(u1):2; disk(u1)[backup-u1]:1024; disk(u1)[data-u1]:256; mem(u1):2048; ports(u1):31010-31019',
  );
  expect(offer.executor_ids).toBeUndefined();
});

test('a silent executor is killed after the registration timeout', () => {
  const world = createWorld();
  const scheduler = connect(world);
  const offers = scheduler.takeOffers();
  const { reserve: whole, create, launch } = bundle('u1', roots);
  scheduler.accept(offers, [whole, create, launch('t1', offers[0].agent_id.value, shellCommand)]);
  scheduler.take();
  world.clock.advance(19_000);
  expect(world.effects.join()).not.toContain('SIGKILL');
  scheduler.take();

  world.clock.advance(1100);

  const events = scheduler.take();
  expect(states(events)).toContain('t1 TASK_FAILED REASON_EXECUTOR_REGISTRATION_TIMEOUT');
  expect(events.find(({ type }) => type === 'FAILURE').failure.status).toBe(9);
});

test('KILL of a silent executor ends the task at once and keeps the volumes held', () => {
  const world = createWorld();
  const scheduler = connect(world);
  const offers = scheduler.takeOffers();
  const { reserve: whole, create, launch } = bundle('u1', roots);
  scheduler.accept(offers, [whole, create, launch('t1', offers[0].agent_id.value, shellCommand)]);
  scheduler.take();

  scheduler.call({ type: 'KILL', kill: { task_id: { value: 't1' } } });
  world.clock.advance(1000);

  const events = scheduler.take();
  expect(states(events)).toEqual(['t1 TASK_KILLED REASON_TASK_KILLED_DURING_LAUNCH']);
  expect(show(events.find(({ type }) => type === 'OFFERS').offers.offers[0])).not.toContain('data-u1');
});

test('volumes are made, linked before the process starts, and emptied or removed by DESTROY', () => {
  const { world, scheduler, process } = running();
  const { directory } = world.forks[0]!;
  const made = ['mkdir /disks/path0/volumes/roles/mysql/backup-u1', 'mkdir /disks/mount0'];
  const linked = [
    `symlink ${directory}/backup -> /disks/path0/volumes/roles/mysql/backup-u1`,
    `symlink ${directory}/data -> /disks/mount0`,
  ];
  expect(world.effects).toEqual(expect.arrayContaining([...made, ...linked]));
  process.exit(0);
  world.clock.advance(1000);
  const { destroy, unreserve: back } = bundle('u1', roots);

  scheduler.accept(scheduler.takeOffers(), [destroy, back]);

  expect(world.effects.slice(-2)).toEqual(['rmdir /disks/path0/volumes/roles/mysql/backup-u1', 'empty /disks/mount0']);
  world.clock.advance(1000);
  expect(show(scheduler.takeOffers()[0])).toBe(WHOLE);
});

test('a second SUBSCRIBE takes over: ERROR for the old stream, no RESCIND, old offers void, pending update at once', () => {
  const { world, scheduler, process } = running();
  world.clock.advance(1000);
  const [old] = scheduler.takeOffers();
  process.update('t1', 'TASK_KILLING');
  scheduler.take();

  const next = connect(world, { id: { value: scheduler.id } });
  world.clock.advance(5);

  expect(states(scheduler.take())).toEqual(['ERROR', 'closed']);
  expect(states(next.take())).toEqual(['SUBSCRIBED', 't1 TASK_KILLING']);
  expect(scheduler.call({ type: 'REVIVE' }).status).toBe(400);
  next.call({ type: 'ACCEPT', accept: { offer_ids: [old.id], operations: [reserve(reserved('x'), 'r')] } });
  expect(states(next.take())).toEqual(['r OPERATION_ERROR']);
});

test('without its scheduler a framework lives for failover_timeout, then it is removed and may not come back', () => {
  const { world, scheduler } = running();
  scheduler.disconnect();
  world.clock.advance(3_599_000);
  expect(world.cluster.master.frameworks.has(scheduler.id)).toBe(true);
  world.clock.advance(2000);
  expect(world.cluster.master.frameworks.has(scheduler.id)).toBe(false);
  world.clock.advance(6000);
  expect(world.effects.join()).toContain('SIGKILL');

  const again = connect(world, { id: { value: scheduler.id } });

  expect(again.take()[0]).toEqual({ type: 'ERROR', error: { message: 'Framework has been removed' } });
  expect(show(connect(world).takeOffers()[0])).toContain('disk(u1)[data-u1]:256');
});

test('a dead agent: RESCIND at once, unreachable after the pings; back with its task it says so', () => {
  const { world, scheduler, agentId } = running();
  world.clock.advance(1000);
  scheduler.take();
  killSeat(world.cluster, AGENT);
  expect(states(scheduler.take())).toEqual(['RESCIND']);
  world.clock.advance(91_000);
  expect(states(scheduler.take())).toEqual(['t1 TASK_UNREACHABLE REASON_AGENT_REMOVED', 'FAILURE']);
  const ask = (agent_id?: Event) =>
    scheduler.call({
      type: 'RECONCILE',
      reconcile: { tasks: [{ task_id: { value: 't1' }, ...(agent_id ? { agent_id } : {}) }] },
    });
  ask();
  ask({ value: agentId });
  expect(states(scheduler.take())).toEqual([
    't1 TASK_UNKNOWN REASON_RECONCILIATION',
    't1 TASK_UNREACHABLE REASON_RECONCILIATION',
  ]);

  startSeat(world.cluster, AGENT);
  executor(world, scheduler.id, 't1').subscribe('back');
  world.clock.advance(3000);

  expect(states(scheduler.take())).toEqual(['t1 TASK_RUNNING REASON_AGENT_REREGISTERED']);
});

test('an unreachable agent that returns without the task is silent: only reconciliation finds out', () => {
  const { world, scheduler, agentId } = running();
  killSeat(world.cluster, AGENT);
  world.clock.advance(91_000);
  rebootSeat(world.cluster, AGENT, { keepsId: true });
  scheduler.take();

  startSeat(world.cluster, AGENT);
  world.clock.advance(3000);

  const events = scheduler.take();
  expect(states(events)).toEqual([]);
  expect(show(events.find(({ type }) => type === 'OFFERS').offers.offers[0])).toContain('disk(u1)[data-u1]:256');
  scheduler.call({
    type: 'RECONCILE',
    reconcile: { tasks: [{ task_id: { value: 't1' }, agent_id: { value: agentId } }] },
  });
  expect(states(scheduler.take())).toEqual(['t1 TASK_GONE REASON_RECONCILIATION']);
});

test('an agent that lost its tasks before it was given up reports them dropped', () => {
  const { world, scheduler } = running();
  rebootSeat(world.cluster, AGENT, { keepsId: true });
  startSeat(world.cluster, AGENT);
  scheduler.take();

  world.clock.advance(3000);

  expect(states(scheduler.take())).toEqual(['t1 TASK_DROPPED REASON_RECONCILIATION']);
});

test('an agent with a new id brings its old volumes', () => {
  const { world, scheduler, agentId } = running();
  rebootSeat(world.cluster, AGENT, { keepsId: false });
  startSeat(world.cluster, AGENT);
  scheduler.take();

  world.clock.advance(3000);

  const events = scheduler.take();
  const [offer] = events.find(({ type }) => type === 'OFFERS').offers.offers;
  expect(offer.agent_id.value).not.toBe(agentId);
  expect(show(offer)).toContain('disk(u1)[data-u1]:256');
});

test('a partition is noticed by the pings only, and a KILL in it is lost', () => {
  const { world, scheduler } = running();
  world.clock.advance(1000);
  scheduler.take();
  cutSeat(world.cluster, AGENT);
  world.clock.advance(60_000);
  expect(states(scheduler.take())).toEqual([]);
  scheduler.call({ type: 'KILL', kill: { task_id: { value: 't1' } } });
  world.clock.advance(40_000);
  expect(states(scheduler.take())).toEqual(['RESCIND', 't1 TASK_UNREACHABLE REASON_AGENT_REMOVED', 'FAILURE']);

  mendSeat(world.cluster, AGENT);
  world.clock.advance(1000);

  expect(states(scheduler.take())).toEqual(['t1 TASK_RUNNING REASON_AGENT_REREGISTERED']);
  expect(world.executorEvents.some(({ type }) => type === 'KILL')).toBe(false);
});

test('a new master does not answer for agents that are not back yet', () => {
  const { world, scheduler, agentId } = running();
  const oldMaster = world.cluster.master.id;
  failOverMaster(world.cluster, { agents: [] });
  expect(scheduler.take().at(-1)).toEqual({ type: 'closed' });
  const next = connect(world, { id: { value: scheduler.id } });
  const ask = () => {
    for (const task of [{ task_id: { value: 't1' } }, { task_id: { value: 't1' }, agent_id: { value: agentId } }])
      next.call({ type: 'RECONCILE', reconcile: { tasks: [task] } });
    return states(next.take());
  };
  expect(ask()).toEqual(['SUBSCRIBED']);
  expect(world.cluster.master.id).not.toBe(oldMaster);

  mendSeat(world.cluster, AGENT);
  world.clock.advance(2000);

  expect(next.takeOffers()[0].agent_id.value).toBe(agentId);
  expect(ask()).toEqual(['t1 TASK_RUNNING REASON_RECONCILIATION', 't1 TASK_RUNNING REASON_RECONCILIATION']);
});

test('TEARDOWN kills without an update, and reservations and volumes stay', () => {
  const { world, scheduler } = running();
  scheduler.take();
  scheduler.call({ type: 'TEARDOWN' });
  world.clock.advance(6000);

  expect(states(scheduler.take())).toEqual(['closed']);
  expect(world.executorEvents.at(-1)).toMatchObject({ type: 'SHUTDOWN' });
  expect(world.effects.join()).toContain('SIGKILL');
  expect(show(connect(world).takeOffers()[0])).toContain('disk(u1)[data-u1]:256');
});

test('the operator sees what is reserved and held, and takes back offers for what it reserves', () => {
  const world = createWorld();
  const scheduler = connect(world);
  const [offer] = scheduler.takeOffers();
  const operator = (body: unknown) =>
    answerOperator(world.cluster.master, {
      method: 'POST',
      contentType: 'application/json',
      accept: undefined,
      streamId: undefined,
      authorization: undefined,
      body: JSON.stringify(body),
    });
  const { agent_id } = offer;

  const answer = operator({
    type: 'RESERVE_RESOURCES',
    reserve_resources: { agent_id, resources: [reserved('op', 1)] },
  });
  expect(answer.status).toBe(202);
  expect(states(scheduler.take())).toEqual(['RESCIND']);
  const [agent] = JSON.parse(operator({ type: 'GET_AGENTS' }).body).get_agents.agents;
  expect(agent.total_resources.find(({ role }: Event) => role === 'mysql').scalar.value).toBe(1);
  expect(agent.allocated_resources).toBeUndefined();
  const tooMuch = { type: 'RESERVE_RESOURCES', reserve_resources: { agent_id, resources: [reserved('op', 10)] } };
  expect(operator(tooMuch).status).toBe(409);
});

test('an operation that is lost between master and agent: the launch is dropped, and what the agent has is the truth', () => {
  const world = createWorld();
  const scheduler = connect(world);
  const [offer] = scheduler.takeOffers();
  const { reserve: whole, create, launch, destroy, unreserve: back } = bundle('u1', roots);
  world.cluster.lostMessages.push('apply', 'apply');
  scheduler.accept([offer], [whole, create, launch('t1', offer.agent_id.value, shellCommand)]);
  expect(states(scheduler.take())).toEqual(['t1 TASK_DROPPED REASON_RESOURCES_UNKNOWN', 'FAILURE']);
  world.clock.advance(1000);
  const offers = scheduler.takeOffers();
  expect(offers.map(show).join('; ')).toContain('data-u1');

  scheduler.accept(offers, [destroy, back]);
  world.clock.advance(2000);

  expect(scheduler.takeOffers().map(show).join('; ')).not.toContain('u1');
});
