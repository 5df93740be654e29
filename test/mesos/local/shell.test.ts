import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { realClock } from '../../../src/clock.ts';
import { type LocalMesos, type LocalMesosOptions, startLocalMesos } from '../../../src/mesos/local/start.ts';
import { bundle, type Event, frameworkInfo, post, subnet, subscribe, type TestScheduler } from './scheduler.ts';

const script = join(import.meta.dirname, 'executor.mjs');
const command = (mode = 'run') => ({
  shell: true,
  value: `exec ${process.execPath} ${script}`,
  environment: { variables: [{ name: 'MODE', type: 'VALUE', value: mode }] },
});
const AGENT = `${subnet(2)}.11:15152`;

let workDir: string;
let mesos: LocalMesos | null;
let schedulers: TestScheduler[];

const options = (more: Partial<LocalMesosOptions> = {}): LocalMesosOptions => ({
  workDir,
  subnet: subnet(2),
  agentPort: 15_152,
  agents: [
    {
      cpus: 4,
      memMb: 8192,
      ports: '31000-31099',
      disks: [
        { type: 'root', sizeMb: 10_240 },
        { type: 'path', root: 'disks/path0', sizeMb: 2048 },
        { type: 'mount', root: 'disks/mount0', sizeMb: 256 },
      ],
    },
  ],
  clock: realClock,
  log: pino({ level: 'silent' }),
  newId: randomUUID,
  allocationIntervalMs: 100,
  ...more,
});

async function start(more: Partial<LocalMesosOptions> = {}): Promise<LocalMesos> {
  mesos = await startLocalMesos(options(more));
  return mesos;
}

async function connect(
  info: Record<string, unknown> = frameworkInfo,
  how: { acknowledgesAll?: boolean } = {},
): Promise<TestScheduler> {
  const scheduler = await subscribe(mesos!.masterUrl, info, how);
  schedulers.push(scheduler);
  return scheduler;
}

beforeEach(() => {
  workDir = mkdtempSync(join(tmpdir(), 'mesos-local-'));
  mesos = null;
  schedulers = [];
});

afterEach(async () => {
  for (const scheduler of schedulers) scheduler.close();
  await mesos?.stop();
  rmSync(workDir, { recursive: true, force: true });
});

const agentDir = () => join(workDir, 'agents', AGENT.replace(':', '-'));
const roots = () => ({ path: join(agentDir(), 'disks/path0'), mount: join(agentDir(), 'disks/mount0') });
const sandbox = (executorId: string): string => {
  const base = join(agentDir(), 'slaves');
  const slave = join(base, readdirSync(base)[0]!, 'frameworks');
  return join(slave, readdirSync(slave)[0]!, 'executors', executorId, 'runs', 'latest');
};
const isAlive = (pid: number): boolean =>
  existsSync(`/proc/${pid}/stat`) && !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));

async function launch(scheduler: TestScheduler, taskId: string, launchCommand: Record<string, unknown> = command()) {
  const offered = await scheduler.waitFor(({ type }) => type === 'OFFERS');
  const [offer] = offered.offers.offers;
  const { reserve, create, launch: launchBundle } = bundle('u1', roots());
  scheduler.forget();
  const answer = await scheduler.call({
    type: 'ACCEPT',
    accept: {
      offer_ids: [offer.id],
      filters: { refuse_seconds: 0 },
      operations: [
        { ...reserve, id: undefined },
        { ...create, id: undefined },
        launchBundle(taskId, offer.agent_id.value, launchCommand),
      ],
    },
  });
  expect(answer.status).toBe(202);
  return offer.agent_id;
}

async function launchRunning(scheduler: TestScheduler, taskId = 't1', launchCommand = command()) {
  const agentId = await launch(scheduler, taskId, launchCommand);
  await scheduler.update(taskId, 'TASK_STARTING');
  const status = await scheduler.update(taskId, 'TASK_RUNNING');
  return { agentId, pid: status.container_status.executor_pid as number };
}

test('an executor gets the documented environment, its volumes and nothing else', async () => {
  await start();
  await launchRunning(await connect());

  const [line] = readFileSync(join(sandbox('t1'), 'stdout'), 'utf8').split('\n');
  const { env, entries } = JSON.parse(line!);

  expect(entries).toEqual(['backup', 'data', 'stderr', 'stdout']);
  expect(Object.keys(env).sort()).toEqual([
    'LIBPROCESS_IP',
    'LIBPROCESS_PORT',
    'MESOS_AGENT_ENDPOINT',
    'MESOS_CHECKPOINT',
    'MESOS_DIRECTORY',
    'MESOS_EXECUTOR_ID',
    'MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD',
    'MESOS_FRAMEWORK_ID',
    'MESOS_HTTP_COMMAND_EXECUTOR',
    'MESOS_RECOVERY_TIMEOUT',
    'MESOS_SANDBOX',
    'MESOS_SLAVE_ID',
    'MESOS_SLAVE_PID',
    'MESOS_SUBSCRIPTION_BACKOFF_MAX',
    'MODE',
    'PATH',
    'PWD',
  ]);
});

test('children in the session of an executor die with it; FAILURE tells the signal', async () => {
  await start();
  const scheduler = await connect();
  const { pid } = await launchRunning(scheduler, 't1', command('children'));
  const child = await vi.waitFor(() => {
    const [found] = readdirSync('/proc').filter((name) => {
      if (!/^\d+$/.test(name) || !isAlive(Number(name)) || Number(name) === pid) return false;
      return readFileSync(`/proc/${name}/stat`, 'latin1').split(') ')[1]!.split(' ')[3] === String(pid);
    });
    expect(found).toBeDefined();
    return Number(found);
  });

  process.kill(pid, 'SIGKILL');

  const failure = await scheduler.waitFor(({ type }) => type === 'FAILURE');
  expect(failure.failure.status).toBe(9);
  const failed = await scheduler.update('t1', 'TASK_FAILED');
  expect(failed.reason).toBe('REASON_EXECUTOR_TERMINATED');
  await vi.waitFor(() => expect(isAlive(child)).toBe(false));
});

test('SHUTDOWN waits for the grace period, then kills', async () => {
  await start({ executorShutdownGraceMs: 300 });
  const scheduler = await connect();
  const { agentId, pid } = await launchRunning(scheduler, 't1', command('stubborn'));

  await scheduler.call({ type: 'SHUTDOWN', shutdown: { executor_id: { value: 't1' }, agent_id: agentId } });

  const failure = await scheduler.waitFor(({ type }) => type === 'FAILURE');
  expect(failure.failure.status).toBe(9);
  expect(isAlive(pid)).toBe(false);
});

test('a URI that is a file is copied; any other fails the launch in words', async () => {
  await start();
  const scheduler = await connect();
  const source = join(workDir, 'tool');
  writeFileSync(source, '#!/bin/sh\n');
  await launchRunning(scheduler, 't1', { ...command(), uris: [{ value: source, executable: true }] } as never);
  expect(existsSync(join(sandbox('t1'), 'tool'))).toBe(true);
  const rest = await scheduler.waitFor(({ type }) => type === 'OFFERS');
  const [offer] = rest.offers.offers;
  const scalar = (name: string, value: number) => ({ name, type: 'SCALAR', scalar: { value } });
  const task = {
    name: 't2',
    task_id: { value: 't2' },
    agent_id: offer.agent_id,
    resources: [scalar('cpus', 0.1), scalar('mem', 32)],
    executor: {
      executor_id: { value: 't2' },
      command: { ...command(), uris: [{ value: 'http://127.0.0.1:1/x' }] },
      resources: [],
    },
  };
  const operations = [{ type: 'LAUNCH', launch: { task_infos: [task] } }];
  await scheduler.call({ type: 'ACCEPT', accept: { offer_ids: [offer.id], operations } });

  const failed = await scheduler.update('t2', 'TASK_FAILED');

  expect(failed.reason).toBe('REASON_CONTAINER_LAUNCH_FAILED');
});

test('a lost 202: the connection breaks, the call was carried out', async () => {
  const { faults } = await start();
  const scheduler = await connect();
  faults.loseAnswer('ACCEPT');

  await expect(launch(scheduler, 't1')).rejects.toThrow();

  await scheduler.update('t1', 'TASK_STARTING');
});

test('everything runs on over a stop and a start; ids, volumes, executors and updates are the same', async () => {
  const { masterUrl } = await start();
  const port = Number(new URL(masterUrl).port);
  const scheduler = await connect();
  const { agentId, pid } = await launchRunning(scheduler);
  await mesos!.stop({ keepExecutors: true });
  expect(isAlive(pid)).toBe(true);

  await start({ masterPort: port });
  const again = await connect({ ...frameworkInfo, id: { value: scheduler.frameworkId } }, { acknowledgesAll: true });
  const offered = await again.waitFor(({ type }) => type === 'OFFERS');

  expect(offered.offers.offers[0].agent_id).toEqual(agentId);
  expect(offered.offers.offers[0].executor_ids).toEqual([{ value: 't1' }]);
  await again.call({ type: 'KILL', kill: { task_id: { value: 't1' }, agent_id: agentId } });
  await again.update('t1', 'TASK_KILLED');
  const failure = await again.waitFor(({ type }) => type === 'FAILURE');
  expect(failure.failure.executor_id).toEqual({ value: 't1' });
});

test('an executor that ended while nobody looked is reported after the start', async () => {
  await start();
  const scheduler = await connect();
  const { pid } = await launchRunning(scheduler);
  await mesos!.stop({ keepExecutors: true });
  process.kill(pid, 'SIGKILL');
  await vi.waitFor(() => expect(isAlive(pid)).toBe(false));

  await start();
  const again = await connect({ ...frameworkInfo, id: { value: scheduler.frameworkId } }, { acknowledgesAll: true });

  const failed = await again.update('t1', 'TASK_FAILED');
  expect(failed.reason).toBe('REASON_EXECUTOR_TERMINATED');
  const [agent] = JSON.parse((await post(`${mesos!.masterUrl}/api/v1`, { type: 'GET_AGENTS' })).body).get_agents.agents;
  expect(agent.allocated_resources).toBeUndefined();
});

/** mesos-local in a process of its own, to be killed. */
async function startProcess(port: number): Promise<{ process: ChildProcess; masterUrl: string }> {
  const root = join(import.meta.dirname, '../../..');
  const { agents, agentPort } = options();
  const source = `
    import { randomUUID } from 'node:crypto';
    import { pino } from 'pino';
    import { realClock } from '${root}/src/clock.ts';
    import { startLocalMesos } from '${root}/src/mesos/local/start.ts';
    const mesos = await startLocalMesos({ ...${JSON.stringify({ workDir, agents, subnet: subnet(2), agentPort, masterPort: port, allocationIntervalMs: 100 })},
      clock: realClock, log: pino({ level: 'silent' }), newId: randomUUID });
    console.log(mesos.masterUrl);`;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', source], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(child.stdout!, 'data');
  return { process: child, masterUrl: String(line).trim() };
}

test('SIGKILL of mesos-local itself: executors run on and are found again', async () => {
  const first = await startProcess(0);
  let pid = 0;
  try {
    const scheduler = await subscribe(first.masterUrl);
    schedulers.push(scheduler);
    ({ pid } = await launchRunning(scheduler));
    const gone = once(first.process, 'exit');
    first.process.kill('SIGKILL');
    await gone;
    expect(isAlive(pid)).toBe(true);

    await start();
    const again = await connect({ ...frameworkInfo, id: { value: scheduler.frameworkId } });
    const offered = await again.waitFor(({ type }) => type === 'OFFERS');

    expect(offered.offers.offers[0].executor_ids).toEqual([{ value: 't1' }]);
  } finally {
    first.process.kill('SIGKILL');
    await mesos?.stop();
    mesos = null;
  }
  await vi.waitFor(() => expect(isAlive(pid)).toBe(false));
});

test('the non-leading listener redirects without a scheme; a recovering master answers 503', async () => {
  const { nonLeadingUrl, masterUrl, faults } = await start({ nonLeadingPort: 0 });
  const call = { type: 'SUBSCRIBE', subscribe: { framework_info: frameworkInfo } };

  const redirected = await post(`${nonLeadingUrl}/api/v1/scheduler`, call);

  expect(redirected.status).toBe(307);
  expect(redirected.headers.location).toBe(`//${new URL(masterUrl).host}/master/api/v1/scheduler`);
  faults.setRecovering(true);
  expect((await post(`${masterUrl}/api/v1/scheduler`, call)).status).toBe(503);
});

test('with credentials every call needs them', async () => {
  const { masterUrl } = await start({ credentials: { dbsvc: 'secret' } });
  const call = { type: 'SUBSCRIBE', subscribe: { framework_info: frameworkInfo } };

  const refused = await post(`${masterUrl}/api/v1/scheduler`, call);

  expect(refused.status).toBe(401);
  expect(refused.headers['www-authenticate']).toBe('Basic realm="mesos-master-scheduler"');
  const authorization = `Basic ${Buffer.from('dbsvc:secret').toString('base64')}`;
  expect((await post(`${masterUrl}/api/v1`, { type: 'GET_HEALTH' }, { authorization })).status).toBe(200);
});

test('faults over HTTP exist only when they are allowed', async () => {
  const { masterUrl } = await start();
  expect((await post(`${masterUrl}/faults`, { kind: 'cutStreams' })).status).toBe(404);
  await mesos!.stop();

  const again = await start({ allowFaultsOverHttp: true });
  const scheduler = await connect();
  expect((await post(`${again.masterUrl}/faults`, { kind: 'cutStreams' })).status).toBe(202);
  await vi.waitFor(() => expect(scheduler.isClosed).toBe(true));
  expect((await post(`${again.masterUrl}/faults`, { kind: 'nonsense' })).status).toBe(400);
  expect((await post(`${again.masterUrl}/faults`, { kind: 'killAgent', agent: 'nobody' })).status).toBe(400);
});

test('an agent that is dead refuses its executors, and they find it when it is back', async () => {
  const { faults } = await start();
  const scheduler = await connect();
  const { agentId } = await launchRunning(scheduler);
  scheduler.forget();
  faults.killAgent(AGENT);
  await expect(
    new Promise((resolve, reject) => http.get(`http://${AGENT}/health`, resolve).on('error', reject)),
  ).rejects.toThrow();

  faults.startAgent(AGENT);
  await scheduler.waitFor(({ type }) => type === 'OFFERS');
  scheduler.forget();
  await scheduler.call({
    type: 'MESSAGE',
    message: { agent_id: agentId, executor_id: { value: 't1' }, data: Buffer.from('hello').toString('base64') },
  });

  const echo: Event = await scheduler.waitFor(({ type }) => type === 'MESSAGE');
  expect(Buffer.from(echo.message.data, 'base64').toString()).toBe('echo:hello');
});

test('a task with a command of its own runs, ends and is accounted for', async () => {
  await start();
  const scheduler = await connect();
  const offered = await scheduler.waitFor(({ type }) => type === 'OFFERS');
  const [offer] = offered.offers.offers;
  const scalar = (name: string, value: number) => ({ name, type: 'SCALAR', scalar: { value } });
  const task = {
    name: 'c1',
    task_id: { value: 'c1' },
    agent_id: offer.agent_id,
    resources: [scalar('cpus', 0.1), scalar('mem', 32)],
    command: { value: 'echo hello; exit 3' },
  };
  const operations = [{ type: 'LAUNCH', launch: { task_infos: [task] } }];
  await scheduler.call({ type: 'ACCEPT', accept: { offer_ids: [offer.id], operations } });

  await scheduler.update('c1', 'TASK_STARTING');
  await scheduler.update('c1', 'TASK_RUNNING');
  const failed = await scheduler.update('c1', 'TASK_FAILED');

  expect(failed.message).toBe('Command exited with status 3');
  expect(readFileSync(join(sandbox('c1'), 'stdout'), 'utf8')).toBe('hello\n');
  expect(scheduler.events.some(({ type }) => type === 'FAILURE')).toBe(false);
});

test('hostile launches fail in words and harm nobody', async () => {
  await start();
  const scheduler = await connect({
    ...frameworkInfo,
    offer_filters: { mysql: { min_allocatable_resources: { quantities: 7 } } },
  });
  const offered = await scheduler.waitFor(({ type }) => type === 'OFFERS');
  const [offer] = offered.offers.offers;
  const scalar = (name: string, value: number) => ({ name, type: 'SCALAR', scalar: { value } });
  const task = (id: string, command: Record<string, unknown>) => ({
    name: id,
    task_id: { value: id },
    agent_id: offer.agent_id,
    resources: [scalar('cpus', 0.1), scalar('mem', 32)],
    executor: { executor_id: { value: id }, command, resources: [] },
  });
  const task_infos = [
    task('nul', { value: 'a\0b' }),
    task('nothing', { shell: false, value: '/does/not/exist' }),
    task('..', { value: 'x' }),
    task('__proto__', { value: 'exit 0' }),
  ];
  await scheduler.call({
    type: 'ACCEPT',
    accept: { offer_ids: [offer.id], operations: [{ type: 'LAUNCH', launch: { task_infos } }] },
  });

  await scheduler.update('nul', 'TASK_FAILED');
  await scheduler.update('nothing', 'TASK_FAILED');
  await scheduler.update('..', 'TASK_ERROR');
  const deep = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
  expect((await post(`${mesos!.masterUrl}/api/v1/scheduler`, deep)).status).toBeGreaterThanOrEqual(400);
  expect((await post(`${mesos!.masterUrl}/api/v1`, { type: 'GET_HEALTH' })).status).toBe(200);
});
