import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { NotConnected } from '../../src/mesos/call-line.ts';
import { executorCall } from '../../src/mesos/executor-api.ts';
import { createExecutorClient, type ExecutorClientOptions } from '../../src/mesos/executor-client.ts';
import { encodeUuid } from '../../src/mesos/unacknowledged.ts';
import { createFakeClock } from './fake-clock.ts';
import { type Received, type ScriptedServer, startServer } from './scripted-server.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const subscribed = {
  type: 'SUBSCRIBED',
  subscribed: {
    executor_info: { executor_id: { value: 'E' } },
    framework_info: { user: 'mysql', name: 'selvedge' },
    agent_info: { hostname: 'node1' },
  },
};
const launch = {
  type: 'LAUNCH',
  launch: { task: { name: 't', task_id: { value: 'T' }, agent_id: { value: 'S' }, data: 'e30=' } },
};
const acknowledged = (status: { uuid: string }) => ({
  type: 'ACKNOWLEDGED',
  acknowledged: { task_id: { value: 'T' }, uuid: status.uuid },
});

async function agent(script?: (received: Received) => void): Promise<ScriptedServer> {
  const started = await startServer(
    script ??
      ((one) => {
        if (one.body.type !== 'SUBSCRIBE') return one.answer(202);
        one.open();
        one.event(subscribed);
      }),
  );
  cleanups.push(() => started.close());
  return started;
}

function executor(server: ScriptedServer, options: Partial<ExecutorClientOptions> = {}) {
  const clock = createFakeClock();
  const happened: string[] = [];
  const client = createExecutorClient({
    env: {
      frameworkId: 'F',
      executorId: 'E',
      agentEndpoint: `127.0.0.1:${server.port}`,
      authenticationToken: 'jwt',
    },
    clock,
    random: () => 0.5,
    newId: randomUUID,
    log: pino({ level: 'silent' }),
    handlers: {
      subscribed: ({ agent_info }) => happened.push(`subscribed ${agent_info.hostname}`),
      launch: (task) => happened.push(`launch ${task.task_id.value}`),
      kill: ({ taskId, graceMs }) => happened.push(`kill ${taskId} ${graceMs}`),
      shutdown: () => happened.push('shutdown'),
      message: (text) => happened.push(`message ${text}`),
      error: (message) => happened.push(`error ${message}`),
    },
    ...options,
  });
  cleanups.push(() => client.stop());
  client.start();
  return { client, clock, happened };
}

const connected = ({ client }: ReturnType<typeof executor>) => vi.waitFor(() => expect(client.isConnected).toBe(true));
const resubscribed = ({ clock }: ReturnType<typeof executor>, server: ScriptedServer, times: number) =>
  vi.waitFor(() => {
    clock.advance(100);
    expect(server.subscribes.length).toBeGreaterThanOrEqual(times);
  });
const statusOf = (one: Received) => {
  const call = executorCall.parse(one.body);
  if (call.type !== 'UPDATE') throw new Error('not an UPDATE');
  return { ...call.update.status, uuid: call.update.status.uuid ?? '' };
};
const listsOf = (one: Received) => {
  const call = executorCall.parse(one.body);
  if (call.type !== 'SUBSCRIBE') throw new Error('not a SUBSCRIBE');
  const { unacknowledged_tasks: tasks, unacknowledged_updates: updates } = call.subscribe;
  return [tasks.map(({ task_id }) => task_id.value), updates.map(({ status }) => status.state)];
};

describe('events', () => {
  test('reach their handlers, also in one chunk and cut anywhere', async () => {
    const server = await agent();
    const it = executor(server);
    await connected(it);
    const [stream] = server.subscribes;

    stream!.event(launch, true);
    stream!.event({ type: 'KILL', kill: { task_id: { value: 'T' } } });
    const kill_policy = { grace_period: { nanoseconds: 60e9 } };
    stream!.event({ type: 'KILL', kill: { task_id: { value: 'T' }, kill_policy } });
    stream!.event({ type: 'MESSAGE', message: { data: Buffer.from('wäke').toString('base64') } });
    stream!.event({ type: 'HEARTBEAT' });
    stream!.event({ type: 'NEW' });
    stream!.event({ type: 'ERROR', error: { message: 'x' } });
    stream!.event({ type: 'SHUTDOWN' });

    await vi.waitFor(() =>
      expect(it.happened).toEqual([
        'subscribed node1',
        'launch T',
        'kill T null',
        'kill T 60000',
        'message wäke',
        'error x',
        'shutdown',
      ]),
    );
    expect(stream!.headers).toMatchObject({ authorization: 'Bearer jwt', 'content-type': 'application/json' });
    expect(stream!.headers).not.toHaveProperty('mesos-stream-id');
  });

  test('a repeated LAUNCH launches once', async () => {
    const server = await agent();
    const it = executor(server);
    await connected(it);

    server.subscribes[0]!.event(launch);
    server.subscribes[0]!.event(launch);
    server.subscribes[0]!.event({ type: 'SHUTDOWN' });

    await vi.waitFor(() => expect(it.happened).toEqual(['subscribed node1', 'launch T', 'shutdown']));
  });
});

describe('updates', () => {
  test('are sent in order as Mesos wants them', async () => {
    const server = await agent();
    const it = executor(server);
    await connected(it);

    it.client.update({ taskId: 'T', state: 'TASK_STARTING', data: '{"version":1}' });
    it.client.update({ taskId: 'T', state: 'TASK_RUNNING', message: 'up' });

    await vi.waitFor(() => expect(server.calls).toHaveLength(2));
    const [starting, running] = server.calls.map(statusOf);
    expect(starting).toMatchObject({ state: 'TASK_STARTING', source: 'SOURCE_EXECUTOR', data: 'eyJ2ZXJzaW9uIjoxfQ==' });
    expect(starting).toMatchObject({ executor_id: { value: 'E' }, task_id: { value: 'T' }, timestamp: 1000 });
    expect(running).toMatchObject({ state: 'TASK_RUNNING', message: 'up' });
    expect(Buffer.from(starting!.uuid, 'base64')).toHaveLength(16);
    expect(server.calls[0]!.socket).toBe(server.calls[1]!.socket);
  });

  test('and tasks are given again until acknowledged', async () => {
    const server = await agent();
    const it = executor(server);
    await connected(it);
    server.subscribes[0]!.event(launch);
    await vi.waitFor(() => expect(it.happened).toContain('launch T'));
    it.client.update({ taskId: 'T', state: 'TASK_STARTING' });
    it.client.update({ taskId: 'T', state: 'TASK_RUNNING' });
    await vi.waitFor(() => expect(server.calls).toHaveLength(2));

    server.subscribes[0]!.socket.destroy();
    await resubscribed(it, server, 2);
    await connected(it);
    server.subscribes[1]!.event(acknowledged(statusOf(server.calls[0]!)));
    server.subscribes[1]!.event({ type: 'SHUTDOWN' });
    await vi.waitFor(() => expect(it.happened).toContain('shutdown'));
    server.subscribes[1]!.socket.destroy();
    await resubscribed(it, server, 3);

    expect(server.subscribes.map(listsOf)).toEqual([
      [[], []],
      [['T'], ['TASK_STARTING', 'TASK_RUNNING']],
      [[], ['TASK_RUNNING']],
    ]);
    expect(server.calls).toHaveLength(2);
  });

  test('made while the agent is away arrive when it is back, however long it takes', async () => {
    let isAway = true;
    const server = await agent((one) => {
      if (isAway) return one.answer(503, 'Agent has not finished recovery');
      if (one.body.type !== 'SUBSCRIBE') return one.answer(202);
      one.open();
      one.event(subscribed);
    });
    const it = executor(server);
    it.client.update({ taskId: 'T', state: 'TASK_RUNNING' });
    for (let times = 1; times <= 8; times += 1) {
      await vi.waitFor(() => expect(it.clock.nextInMs).toBe(375));
      expect(server.subscribes).toHaveLength(times);
      it.clock.advance(375);
    }
    isAway = false;

    await resubscribed(it, server, 9);
    await connected(it);

    expect(listsOf(server.subscribes.at(-1)!)).toEqual([[], ['TASK_RUNNING']]);
  });

  test('made between SUBSCRIBE and SUBSCRIBED are sent once', async () => {
    const server = await agent((one) => {
      if (one.body.type === 'SUBSCRIBE') one.open();
      else one.answer(202);
    });
    const it = executor(server);
    await vi.waitFor(() => expect(server.subscribes).toHaveLength(1));

    it.client.update({ taskId: 'T', state: 'TASK_RUNNING' });
    server.subscribes[0]!.event(subscribed);

    await vi.waitFor(() => expect(server.calls.map((one) => statusOf(one).state)).toEqual(['TASK_RUNNING']));
    expect(listsOf(server.subscribes[0]!)).toEqual([[], []]);
  });

  test('that meet an agent that forgot us go with the next SUBSCRIBE', async () => {
    const server = await agent((one) => {
      if (one.body.type !== 'SUBSCRIBE') return one.answer(403, 'Executor is not subscribed');
      one.open();
      one.event(subscribed);
    });
    const it = executor(server);
    await connected(it);

    it.client.update({ taskId: 'T', state: 'TASK_RUNNING' });

    await resubscribed(it, server, 2);
    expect(listsOf(server.subscribes[1]!)).toEqual([[], ['TASK_RUNNING']]);
  });

  test('that the agent calls invalid are told and not given again', async () => {
    const server = await agent((one) => {
      if (one.body.type !== 'SUBSCRIBE') return one.answer(400, 'Not a valid UUID');
      one.open();
      one.event(subscribed);
    });
    const it = executor(server);
    await connected(it);

    it.client.update({ taskId: 'T', state: 'TASK_RUNNING' });

    await vi.waitFor(() => expect(it.happened.at(-1)).toBe('error the agent refuses TASK_RUNNING: Not a valid UUID'));
    expect(await it.client.whenAcknowledged(null, 1000)).toBe(true);
  });
});

describe('waiting for acknowledgement', () => {
  test('ends with the acknowledgement of the task, or at the deadline', async () => {
    const server = await agent();
    const it = executor(server);
    await connected(it);
    expect(await it.client.whenAcknowledged('T', 1000)).toBe(true);
    it.client.update({ taskId: 'T', state: 'TASK_FAILED' });
    await vi.waitFor(() => expect(server.calls).toHaveLength(1));

    const late = it.client.whenAcknowledged(null, 1000);
    const inTime = it.client.whenAcknowledged('T', 2000);
    it.clock.advance(1000);
    server.subscribes[0]!.event(acknowledged(statusOf(server.calls[0]!)));

    expect(await late).toBe(false);
    expect(await inTime).toBe(true);
    expect(it.clock.timers).toBe(0);
  });
});

test('messages are best effort', async () => {
  const server = await agent();
  const it = executor(server);
  await expect(it.client.sendMessage('x')).rejects.toThrow(NotConnected);
  await connected(it);

  await it.client.sendMessage('hällo');

  expect(server.calls[0]!.body).toMatchObject({
    type: 'MESSAGE',
    message: { data: Buffer.from('hällo').toString('base64') },
  });
});

test('an agent that does not answer is asked again', async () => {
  const server = await agent(() => {});
  const it = executor(server);
  await vi.waitFor(() => expect(server.subscribes).toHaveLength(1));

  it.clock.advance(5000);

  await resubscribed(it, server, 2);
});

test('only version 4 uuids pass: others make an agent abort', () => {
  expect(() => encodeUuid('00000000-0000-1000-8000-000000000000')).toThrow('version 4');
  expect(() => encodeUuid('x')).toThrow('version 4');
  expect(encodeUuid('00000000-0000-4000-8000-000000000000')).toBe('AAAAAAAAQACAAAAAAAAAAA==');
});
