import { expect, test } from 'vitest';
import { createMarket } from '../../src/controller/market.ts';
import { createFakeClock } from '../mesos/fake-clock.ts';

const log = { debug() {}, info() {}, warn() {}, error() {} } as never;
const minute = 60_000;

function create() {
  const clock = createFakeClock();
  const renewed: string[] = [];
  const market = createMarket({
    clock,
    log,
    send: async () => {},
    renew: (reason) => {
      renewed.push(reason);
      market.reset();
    },
  });
  const offer = (agent: string) => ({
    id: { value: `offer-of-${agent}` },
    framework_id: { value: 'f' },
    agent_id: { value: agent },
    hostname: agent,
    resources: [],
    attributes: [],
    executor_ids: [],
  });
  return {
    renewed,
    want: (agentId: string | null) => market.want({ key: 'w', agentId, consider: async () => null }),
    drop: () => market.drop('w'),
    hear: (agent: string) => market.add([offer(agent)]),
    pass(ms: number) {
      for (let rest = ms; rest > 0; rest -= 1000) {
        clock.advance(1000);
        market.sweep();
      }
    },
  };
}

test('who waits for what an agent holds asks for a new subscription, more and more rarely', () => {
  const { renewed, want, pass, hear } = create();
  want('agent-1');
  pass(30_000);
  // Another piece of it: the one that was lost is not offered again.
  hear('agent-1');
  pass(30_000);
  expect(renewed).toEqual(['nothing to use on agent agent-1 for 60 s']);

  pass(2 * minute);
  expect(renewed).toHaveLength(2);
  pass(3 * minute);
  expect(renewed).toHaveLength(2);
  pass(minute);
  expect(renewed).toHaveLength(3);
});

test('who looks at the facts anew every minute has waited all the time', () => {
  const { renewed, want, pass, drop } = create();
  for (let times = 0; times < 2; times += 1) {
    want('agent-1');
    pass(40_000);
    drop();
    pass(1000);
  }

  want('agent-1');
  pass(1000);

  expect(renewed).toEqual(['nothing to use on agent agent-1 for 60 s']);
});

test('who takes any agent waits for room as long as offers come', () => {
  const { renewed, want, pass, hear } = create();
  want(null);
  for (let times = 0; times < 5; times += 1) {
    pass(50_000);
    hear(`agent-${times}`);
  }
  expect(renewed).toEqual([]);

  pass(minute);
  expect(renewed).toEqual(['no offer for 60 s']);
});

test('who wants nothing waits for nothing, and who comes later has a minute of its own', () => {
  const { renewed, want, pass, drop } = create();
  pass(10 * minute);
  want('agent-1');
  pass(59_000);
  drop();
  pass(10 * minute);
  want('agent-1');
  pass(59_000);
  expect(renewed).toEqual([]);
  pass(1000);
  expect(renewed).toHaveLength(1);
});
