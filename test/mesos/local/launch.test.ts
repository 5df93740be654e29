import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { realClock } from '../../../src/clock.ts';
import { type LocalMesos, type LocalMesosOptions, startLocalMesos } from '../../../src/mesos/local/start.ts';
import { bundle, type Event, post, subnet, subscribe, type TestScheduler } from './scheduler.ts';

const script = join(import.meta.dirname, 'executor.mjs');
const command = (mode = 'run') => ({
  shell: true,
  value: `exec ${process.execPath} ${script}`,
  environment: { variables: [{ name: 'MODE', type: 'VALUE', value: mode }] },
});

let workDir: string;
let mesos: LocalMesos;
let scheduler: TestScheduler;

const start = (more: Partial<LocalMesosOptions> = {}) =>
  startLocalMesos({
    workDir,
    subnet: subnet(1),
    agentPort: 0,
    agents: [
      {
        port: 15_151,
        cpus: 4,
        memMb: 8192,
        ports: '31000-31099',
        disks: [
          { type: 'root', sizeMb: 10_240 },
          { type: 'path', root: 'disks/path0', sizeMb: 2048 },
          { type: 'mount', root: 'disks/mount0', sizeMb: 256 },
        ],
        attributes: { rack: 'r1' },
      },
    ],
    clock: realClock,
    log: pino({ level: 'silent' }),
    newId: randomUUID,
    allocationIntervalMs: 200,
    ...more,
  });

beforeEach(async () => {
  workDir = mkdtempSync(join(tmpdir(), 'mesos-local-'));
  mesos = await start();
  scheduler = await subscribe(mesos.masterUrl);
});

afterEach(async () => {
  scheduler.close();
  await mesos.stop();
  rmSync(workDir, { recursive: true, force: true });
});

const roots = () => ({
  path: join(mesos.agents[0]!.workDir, 'disks/path0'),
  mount: join(mesos.agents[0]!.workDir, 'disks/mount0'),
});
const nextOffer = async (fits: (offer: Event) => boolean = () => true): Promise<Event> => {
  const event = await scheduler.waitFor(({ offers }) => offers?.offers.some(fits));
  return event.offers.offers.find(fits);
};
const accept = (offers: readonly Event[], operations: unknown[]) =>
  scheduler.call({
    type: 'ACCEPT',
    accept: { offer_ids: offers.map(({ id }) => id), operations, filters: { refuse_seconds: 0 } },
  });
const message = (taskId: string, agentId: unknown, text: string) =>
  scheduler.call({
    type: 'MESSAGE',
    message: { agent_id: agentId, executor_id: { value: taskId }, data: Buffer.from(text).toString('base64') },
  });
const hasVolume = (offer: Event) => offer.resources.some(({ disk }: Event) => disk?.persistence);
const agents = async () =>
  JSON.parse((await post(`${mesos.masterUrl}/api/v1`, { type: 'GET_AGENTS' })).body).get_agents.agents;

/** Gives back all that is outstanding: what comes next is one offer of all that is free. */
async function offerOfEverything(): Promise<Event> {
  const all = scheduler.events.flatMap(({ offers }) => offers?.offers ?? []);
  scheduler.forget();
  await scheduler.call({
    type: 'DECLINE',
    decline: { offer_ids: all.map(({ id }: Event) => id), filters: { refuse_seconds: 0 } },
  });
  return nextOffer();
}

async function launchFirst(mode = 'run', more = {}): Promise<Event> {
  const offer = await nextOffer();
  const { reserve, create, launch } = bundle('u1', roots());
  scheduler.forget();
  const answer = await accept([offer], [reserve, create, launch('t1', offer.agent_id.value, command(mode), more)]);
  expect(answer.status).toBe(202);
  return offer.agent_id;
}

test('one ACCEPT reserves, creates and launches; the bundle is relaunched on its volumes and given back', async () => {
  const agentId = await launchFirst();
  for (const kind of ['reserve', 'create']) {
    const done = await scheduler.waitFor(
      ({ update_operation_status: each }) => each?.status.operation_id.value === `${kind}-u1`,
    );
    expect(done.update_operation_status.status.state).toBe('OPERATION_FINISHED');
  }
  await scheduler.update('t1', 'TASK_STARTING');
  await scheduler.update('t1', 'TASK_RUNNING');
  const rest = await nextOffer();
  expect(rest.executor_ids).toEqual([{ value: 't1' }]);
  expect(rest.resources.filter(({ reservations }: Event) => reservations)).toEqual([]);

  scheduler.forget();
  await message('t1', agentId, 'fail t1 500');
  const failed = await scheduler.waitFor(({ update }) => update?.status.state === 'TASK_FAILED');
  const token = await nextOffer(({ resources }) => resources.some(({ reservations }: Event) => reservations));
  expect(token.resources.map(({ name, scalar }: Event) => [name, scalar.value]).sort()).toEqual([
    ['cpus', 0.1],
    ['mem', 32],
  ]);
  const ended = await scheduler.waitFor(({ type }) => type === 'FAILURE');
  expect(ended.failure).toMatchObject({ executor_id: { value: 't1' }, status: 0 });
  const held = await nextOffer(hasVolume);
  expect(held.executor_ids).toBeUndefined();

  scheduler.forget();
  const { launch, destroy, unreserve } = bundle('u1', roots());
  await accept([rest, token, held], [launch('t2', agentId.value, command())]);
  await scheduler.acknowledge(failed.update.status);
  await scheduler.update('t2', 'TASK_STARTING');
  await scheduler.update('t2', 'TASK_RUNNING');
  expect(readFileSync(join(roots().mount, 'marker'), 'utf8')).toBe('t1\nt2\n');

  await scheduler.call({ type: 'KILL', kill: { task_id: { value: 't2' }, agent_id: agentId } });
  await scheduler.update('t2', 'TASK_KILLED');
  await scheduler.waitFor(({ type }) => type === 'FAILURE');
  await nextOffer(hasVolume);
  const whole = await offerOfEverything();
  scheduler.forget();
  await accept([whole], [destroy, unreserve]);
  await scheduler.waitFor(({ offers: list }) =>
    list?.offers[0].resources.every(({ reservations }: Event) => !reservations),
  );
  expect(readdirSync(roots().mount)).toEqual([]);
  const [agent] = await agents();
  expect(agent.allocated_resources).toBeUndefined();
  expect(agent.total_resources.every(({ role }: Event) => role === '*')).toBe(true);
});
