import { pino } from 'pino';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createSelfSigned } from '../../src/channel/self-signed.ts';
import { CallRejected, CallTimeout, NotConnected, StaleSubscription } from '../../src/mesos/call-line.ts';
import { kill, revive, suppress, teardown } from '../../src/mesos/calls.ts';
import type { SchedulerEvent } from '../../src/mesos/scheduler-api.ts';
import { createSchedulerClient, type SchedulerClientOptions } from '../../src/mesos/scheduler-client.ts';
import { createFakeClock } from './fake-clock.ts';
import { type Received, type ScriptedServer, startServer } from './scripted-server.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const subscribed = {
  type: 'SUBSCRIBED',
  subscribed: { framework_id: { value: 'F1' }, heartbeat_interval_seconds: 15, master_info: { id: 'm', ip: 16777343 } },
};
const stream = (id: string) => ({ 'Mesos-Stream-Id': id });

async function server(script?: (received: Received) => void): Promise<ScriptedServer> {
  const started = await startServer(script);
  cleanups.push(() => started.close());
  return started;
}

/** Answers every SUBSCRIBE with a stream `s1`, `s2`, … and SUBSCRIBED, every call with 202. */
async function goodMaster(onCall: (received: Received) => void = (one) => one.answer(202)) {
  let count = 0;
  return server((one) => {
    if (one.body.type !== 'SUBSCRIBE') return onCall(one);
    count += 1;
    one.open(stream(`s${count}`));
    one.event(subscribed);
  });
}

function client(masters: readonly string[], options: Partial<SchedulerClientOptions> = {}) {
  const clock = createFakeClock();
  const happened: string[] = [];
  const events: SchedulerEvent[] = [];
  const errors: Error[] = [];
  const scheduler = createSchedulerClient({
    masters,
    frameworkInfo: { user: 'mysql', name: 'selvedge', roles: ['mysql'] },
    frameworkId: null,
    clock,
    random: () => 0.5,
    log: pino({ level: 'silent' }),
    handlers: {
      subscribed: ({ frameworkId }) => happened.push(`subscribed ${frameworkId}`),
      event: (event) => {
        happened.push(event.type);
        events.push(event);
      },
      disconnected: () => happened.push('disconnected'),
      failedOver: () => happened.push('failedOver'),
      removed: () => happened.push('removed'),
      failed: (error) => {
        happened.push('failed');
        errors.push(error);
      },
    },
    ...options,
  });
  cleanups.push(() => scheduler.stop());
  scheduler.start();
  return { scheduler, clock, happened, events, errors };
}

const connected = ({ scheduler }: ReturnType<typeof client>) =>
  vi.waitFor(() => expect(scheduler.isConnected).toBe(true));
/** Lets the back-off run out until `master` was asked `times` times. */
const resubscribed = ({ clock }: ReturnType<typeof client>, master: ScriptedServer, times: number) =>
  vi.waitFor(() => {
    clock.advance(500);
    expect(master.subscribes.length).toBeGreaterThanOrEqual(times);
  });

describe('stream', () => {
  test('events arrive whole and in order, a byte at a time or many in a chunk', async () => {
    const master = await goodMaster();
    const it = client([master.url]);
    await connected(it);
    const [first] = master.subscribes;

    first!.event({ type: 'RESCIND', rescind: { offer_id: { value: 'Öffer-€' } } }, true);
    first!.event({ type: 'HEARTBEAT' });
    first!.event({ type: 'SOMETHING_NEW', something_new: {} });
    first!.event({ type: 'RESCIND', rescind: {} });
    first!.event({ type: 'OFFERS', offers: {}, future: 1 });

    await vi.waitFor(() => expect(it.happened).toEqual(['subscribed F1', 'RESCIND', 'OFFERS']));
    expect(it.events[0]).toMatchObject({ rescind: { offer_id: { value: 'Öffer-€' } } });
    expect(it.events[1]).toMatchObject({ offers: { offers: [] } });
    expect(first!.headers['content-type']).toBe('application/json');
    expect(first!.headers['mesos-stream-id']).toBeUndefined();
    expect(first!.body).not.toHaveProperty('framework_id');
  });

  test('silence for five intervals gives the subscription up, a heartbeat keeps it', async () => {
    const master = await goodMaster();
    const it = client([master.url]);
    await connected(it);

    it.clock.advance(74_000);
    master.subscribes[0]!.event({ type: 'RESCIND', rescind: { offer_id: { value: 'O' } } });
    await vi.waitFor(() => expect(it.happened).toContain('RESCIND'));
    it.clock.advance(74_000);
    expect(it.scheduler.isConnected).toBe(true);
    it.clock.advance(2_000);

    await resubscribed(it, master, 2);
    await connected(it);
    expect(it.happened).toEqual(['subscribed F1', 'RESCIND', 'disconnected', 'subscribed F1']);
  });

  test('a subscription again carries the framework id in both places', async () => {
    const master = await goodMaster();
    const it = client([master.url]);
    await connected(it);

    master.subscribes[0]!.socket.destroy();

    await resubscribed(it, master, 2);
    expect(master.subscribes[1]!.body).toMatchObject({
      framework_id: { value: 'F1' },
      subscribe: { framework_info: { id: { value: 'F1' } } },
    });
  });

  test('what is no RecordIO ends the subscription', async () => {
    const master = await goodMaster();
    const it = client([master.url]);
    await connected(it);

    master.subscribes[0]!.response.write('<html>');

    await vi.waitFor(() => expect(it.happened).toContain('disconnected'));
  });

  test('no answer to SUBSCRIBE is given up', async () => {
    const master = await server(() => {});
    const it = client([master.url]);
    await vi.waitFor(() => expect(master.subscribes).toHaveLength(1));

    it.clock.advance(15_000);

    await resubscribed(it, master, 2);
  });

  test('a handler that throws does not end the stream', async () => {
    const master = await goodMaster();
    const it = client([master.url], {
      handlers: {
        subscribed: () => {
          throw new Error('fault');
        },
        event: () => it.happened.push('event'),
        disconnected: () => it.happened.push('disconnected'),
        failedOver: () => {},
        removed: () => {},
        failed: () => {},
      },
    });
    await connected(it);

    master.subscribes[0]!.event({ type: 'OFFERS', offers: {} });

    await vi.waitFor(() => expect(it.happened).toEqual(['event']));
  });
});

describe('errors of the master', () => {
  test('another scheduler took over: stop, never subscribe again', async () => {
    const master = await goodMaster();
    const it = client([master.url]);
    await connected(it);

    master.subscribes[0]!.event({ type: 'ERROR', error: { message: 'Framework failed over' } });

    await vi.waitFor(() => expect(it.happened).toEqual(['subscribed F1', 'failedOver']));
    it.clock.advance(600_000);
    expect(it.clock.timers).toBe(0);
    expect(master.subscribes).toHaveLength(1);
  });

  test('a late event of an older stream counts for nothing', async () => {
    const master = await goodMaster();
    const it = client([master.url]);
    await connected(it);
    it.clock.advance(76_000);
    await resubscribed(it, master, 2);
    await connected(it);

    master.subscribes[0]!.event({ type: 'ERROR', error: { message: 'Framework failed over' } });
    master.subscribes[1]!.event({ type: 'OFFERS', offers: {} });

    await vi.waitFor(() => expect(it.happened.at(-1)).toBe('OFFERS'));
    expect(it.happened).not.toContain('failedOver');
  });

  test('a removed framework is not subscribed again', async () => {
    const master = await server((one) => {
      one.open(stream('s'));
      one.event({ type: 'ERROR', error: { message: 'Framework has been removed' } });
    });
    const it = client([master.url], { frameworkId: 'F0' });

    await vi.waitFor(() => expect(it.happened).toEqual(['removed']));
    expect(it.clock.timers).toBe(0);
  });

  test('a refused FrameworkInfo is fatal, another error later is not', async () => {
    const refusing = await server((one) => {
      one.open(stream('s'));
      one.event({ type: 'ERROR', error: { message: "Role 'x' is not present in the master's --roles" } });
    });
    const it = client([refusing.url]);
    await vi.waitFor(() => expect(it.happened).toEqual(['failed']));
    expect(it.errors[0]!.message).toContain("Role 'x'");

    const master = await goodMaster();
    const other = client([master.url]);
    await connected(other);
    master.subscribes[0]!.event({ type: 'ERROR', error: { message: 'something else' } });
    await resubscribed(other, master, 2);
    expect(other.happened).toContain('disconnected');
  });

  test.each([
    [401, 'Unauthorized'],
    [403, 'principal without a value'],
    [400, "'framework_id' differs from 'subscribe.framework_info.id'"],
    [415, 'Expecting application/json'],
  ])('%d on SUBSCRIBE is fatal', async (status, text) => {
    const master = await server((one) => one.answer(status, text));
    const it = client([master.url]);

    await vi.waitFor(() => expect(it.happened).toEqual(['failed']));
    it.clock.advance(600_000);
    expect(master.subscribes).toHaveLength(1);
    expect(it.errors[0]).toMatchObject({ status, body: text });
  });

  test.each([404, 503, 500])('%d on SUBSCRIBE is tried again, ever more slowly', async (status) => {
    const master = await server((one) => one.answer(status));
    const it = client([master.url]);
    const delays: number[] = [];

    for (let times = 1; times <= 5; times += 1) {
      // The other timer is the deadline of a SUBSCRIBE that is not answered yet.
      await vi.waitFor(() => expect(it.clock.nextInMs).toBeLessThan(15_000));
      expect(master.subscribes).toHaveLength(times);
      delays.push(it.clock.nextInMs);
      it.clock.advance(it.clock.nextInMs);
    }

    expect(delays).toEqual([188, 375, 750, 1500, 3000]);
    expect(it.happened).toEqual([]);
  });
});

describe('leader', () => {
  test('a redirect without a scheme is followed, path, method and authorization kept', async () => {
    const leader = await goodMaster();
    const follower = await server((one) =>
      one.answer(307, '', { Location: `//127.0.0.1:${leader.port}/master/api/v1/scheduler` }),
    );
    const it = client([follower.url], { credentials: { principal: 'dbsvc', secret: 'geheim' } });
    await connected(it);

    await it.scheduler.call(revive());

    expect(leader.received.map(({ path, body }) => [path, body.type])).toEqual([
      ['/master/api/v1/scheduler', 'SUBSCRIBE'],
      ['/master/api/v1/scheduler', 'REVIVE'],
    ]);
    const basic = `Basic ${Buffer.from('dbsvc:geheim').toString('base64')}`;
    expect(leader.received.map(({ headers }) => headers.authorization)).toEqual([basic, basic]);
  });

  test('TLS is spoken where the URL says so, with the given authority only', async () => {
    const pem = createSelfSigned({ commonName: 'master', ip: '127.0.0.1', serial: '01', now: Date.now() });
    const master = await startServer(
      (one) => {
        if (one.body.type !== 'SUBSCRIBE') return one.answer(202);
        one.open(stream('s1'));
        one.event(subscribed);
      },
      { cert: pem.certPem, key: pem.keyPem },
    );
    cleanups.push(() => master.close());
    const trusting = client([master.url], { ca: pem.certPem });
    const other = client([master.url]);

    await connected(trusting);
    await trusting.scheduler.call(revive());

    await vi.waitFor(() => expect(other.clock.nextInMs).toBeLessThan(15_000));
    expect(master.subscribes).toHaveLength(1);
  });

  test('a circle of redirects ends', async () => {
    const master = await server((one) => one.answer(307, '', { Location: '/api/v1/scheduler' }));
    const it = client([master.url]);

    await vi.waitFor(() => expect(master.subscribes).toHaveLength(6));
    await vi.waitFor(() => expect(it.clock.timers).toBe(1));
    expect(master.subscribes).toHaveLength(6);
    await resubscribed(it, master, 7);
  });

  test('the list is gone through when a master is dead', async () => {
    const dead = await startServer();
    await dead.close();
    const master = await goodMaster();
    const it = client([dead.url, master.url]);

    await resubscribed(it, master, 1);
    await connected(it);
  });

  test('a redirect to a call means that the leader changed', async () => {
    const master = await goodMaster((one) => one.answer(307, '', { Location: '//127.0.0.1:1/' }));
    const it = client([master.url]);
    await connected(it);

    await expect(it.scheduler.call(revive())).rejects.toThrow(StaleSubscription);

    await resubscribed(it, master, 2);
  });
});

describe('calls', () => {
  test('go one after the other over one connection, with the id of the stream', async () => {
    const waiting: Received[] = [];
    const master = await goodMaster((one) => void waiting.push(one));
    const it = client([master.url]);
    await connected(it);

    const done = Promise.all([it.scheduler.call(revive()), it.scheduler.call(suppress()), it.scheduler.call(revive())]);
    for (const type of ['REVIVE', 'SUPPRESS', 'REVIVE']) {
      await vi.waitFor(() => expect(waiting).toHaveLength(1));
      expect(waiting[0]!.body).toMatchObject({ type, framework_id: { value: 'F1' } });
      waiting.shift()!.answer(202);
    }
    await done;

    expect(new Set(master.calls.map(({ socket }) => socket.remotePort)).size).toBe(1);
    expect(master.calls[0]!.socket).not.toBe(master.subscribes[0]!.socket);
    expect(master.calls.map(({ headers }) => headers['mesos-stream-id'])).toEqual(['s1', 's1', 's1']);
  });

  test('without a subscription are not sent', async () => {
    const master = await server(() => {});
    const it = client([master.url]);

    await expect(it.scheduler.call(revive())).rejects.toThrow(NotConnected);

    expect(master.calls).toHaveLength(0);
  });

  test.each([
    [400, "The stream ID 'a' included in this request didn't match the stream ID currently associated"],
    [400, 'Framework cannot be found'],
    [400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"],
    [403, 'Framework is not subscribed'],
    [503, 'Master has not finished recovery'],
  ])('%d %s: subscribe again', async (status, text) => {
    const master = await goodMaster((one) => one.answer(status, text));
    const it = client([master.url]);
    await connected(it);

    await expect(it.scheduler.call(revive())).rejects.toThrow(StaleSubscription);

    expect(it.happened.at(-1)).toBe('disconnected');
    await resubscribed(it, master, 2);
  });

  test('another 400 is our fault: told once, no loop, still subscribed', async () => {
    const master = await goodMaster((one) => one.answer(400, 'Failed to validate scheduler::Call'));
    const it = client([master.url]);
    await connected(it);

    const outcome = await it.scheduler.call(kill({ taskId: 't', agentId: null })).catch((error: unknown) => error);

    expect(outcome).toBeInstanceOf(CallRejected);
    expect(outcome).not.toBeInstanceOf(StaleSubscription);
    expect(outcome).toMatchObject({ status: 400, body: 'Failed to validate scheduler::Call' });
    expect(it.scheduler.isConnected).toBe(true);
    expect(master.calls).toHaveLength(1);
  });

  test('a call without an answer has an unknown outcome, those behind it were not sent', async () => {
    const master = await goodMaster(() => {});
    const it = client([master.url]);
    await connected(it);

    const outcomes = [revive(), suppress()].map((call) => it.scheduler.call(call).catch((error: unknown) => error));
    await vi.waitFor(() => expect(master.calls).toHaveLength(1));
    it.clock.advance(15_000);

    expect((await outcomes[0]) instanceof CallTimeout).toBe(true);
    expect((await outcomes[1]) instanceof NotConnected).toBe(true);
    expect(master.calls).toHaveLength(1);
    expect(it.happened.at(-1)).toBe('disconnected');
  });

  test('a lost 202 is an unknown outcome', async () => {
    const master = await goodMaster((one) => one.socket.destroy());
    const it = client([master.url]);
    await connected(it);

    await expect(it.scheduler.call(revive())).rejects.toThrow(CallTimeout);
  });

  test('a call under way when the stream breaks has an unknown outcome', async () => {
    const master = await goodMaster(() => {});
    const it = client([master.url]);
    await connected(it);
    const outcome = it.scheduler.call(revive()).catch((error: unknown) => error);
    await vi.waitFor(() => expect(master.calls).toHaveLength(1));

    master.subscribes[0]!.socket.destroy();
    await vi.waitFor(() => expect(it.happened).toContain('disconnected'));
    it.clock.advance(1000);

    expect(await outcome).toBeInstanceOf(CallTimeout);
  });

  test('a call that ends the stream is still answered', async () => {
    const master = await goodMaster((one) => {
      master.subscribes[0]!.response.end();
      void vi.waitFor(() => expect(it.happened).toContain('disconnected')).then(() => one.answer(202));
    });
    const it = client([master.url]);
    await connected(it);

    await it.scheduler.call(teardown());

    expect(it.scheduler.isConnected).toBe(false);
  });

  test('stopping leaves no timer and no connection', async () => {
    const master = await goodMaster();
    const it = client([master.url]);
    await connected(it);
    await it.scheduler.call(revive());

    it.scheduler.stop();

    expect(it.clock.timers).toBe(0);
    await vi.waitFor(() => expect(master.received.every(({ socket }) => socket.destroyed)).toBe(true));
    expect(it.happened).toEqual(['subscribed F1']);
  });
});

test('a renewed subscription is a new one of the same framework', async () => {
  const master = await goodMaster();
  const { scheduler, clock, happened } = client([master.url]);
  scheduler.renew('nothing is there to renew');
  scheduler.start();
  await vi.waitFor(() => expect(scheduler.isConnected).toBe(true));

  scheduler.renew('no offer for a minute');

  expect(scheduler.isConnected).toBe(false);
  clock.advance(1000);
  await vi.waitFor(() => expect(scheduler.isConnected).toBe(true));
  expect(happened).toEqual(['subscribed F1', 'disconnected', 'subscribed F1']);
  scheduler.stop();
});

test('ZooKeeper is said to be unsupported, a secret with a colon to be unusable', () => {
  const make = (options: Partial<SchedulerClientOptions>) => () =>
    createSchedulerClient({ masters: ['http://127.0.0.1:1'], ...options } as SchedulerClientOptions);

  expect(make({ masters: ['zk://a:2181/mesos'] })).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED' }));
  expect(make({ masters: ['mesos'] })).toThrow(expect.objectContaining({ code: 'BAD_REQUEST' }));
  expect(make({ credentials: { principal: 'p', secret: 'a:b' } })).toThrow(
    expect.objectContaining({ code: 'BAD_REQUEST' }),
  );
});
