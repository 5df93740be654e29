/** Since when conditions hold, and what metrics tell of them. */
import { afterEach, expect, test } from 'vitest';
import type { Condition } from '../../src/cluster/types.ts';
import type { Controller } from '../../src/controller/controller.ts';
import { createConditionTimes } from '../../src/run/condition-times.ts';
import { createMetrics } from '../../src/run/metrics.ts';
import type { ConditionTime } from '../../src/store/conditions.ts';
import { readConditionTimes, setConditionTimes } from '../../src/store/conditions.ts';
import { lead } from '../../src/store/leadership.ts';
import { aMember, aView } from '../controller/view.ts';
import { createFakeClock } from '../mesos/fake-clock.ts';
import { aCluster, cleanUp, testStore } from '../store/helper.ts';

afterEach(cleanUp);

const log = { debug() {}, info() {}, warn() {}, error() {} } as never;
const condition = (type: string, since: number): Condition => ({ type, since, reason: 'R', message: 'm' });

function create(known: ReadonlyMap<string, readonly ConditionTime[]> = new Map()) {
  const clock = createFakeClock(0);
  const stored: (readonly ConditionTime[])[] = [];
  const store = async (_: string, times: readonly ConditionTime[]) => void stored.push(times);
  const times = createConditionTimes({ known, store, clock, log });
  return { times, stored, clock };
}

test('times are kept at every look and stored a second after a condition came or went', async () => {
  const { times, stored, clock } = create();

  times.keep(aView(), [condition('Degraded', 5)]);
  times.keep(aView(), [condition('Degraded', 5)]);
  times.keep(aView(), [condition('Degraded', 5), condition('WritesBlocked', 9)]);
  times.keep(aView(), [condition('WritesBlocked', 9)]);

  expect(times.of('cluster')).toEqual([{ type: 'WritesBlocked', since: 9 }]);
  expect(stored).toEqual([]);
  clock.advance(1000);
  await expect.poll(() => stored).toEqual([[{ type: 'WritesBlocked', since: 9 }]]);

  times.keep(aView(), []);
  clock.advance(1000);
  await expect.poll(() => stored.at(-1)).toEqual([]);
});

test('what is derived right after a start, before executors are reached, is no news', () => {
  const { times, clock } = create(new Map([['cluster', [{ type: 'Ready', since: 3 }]]]));
  const unreached = aView([aMember(0), aMember(1, {}, { isConnected: false }), aMember(2)]);

  times.keep(unreached, [condition('Degraded', 100)]);
  expect(times.of('cluster')).toEqual([{ type: 'Ready', since: 3 }]);

  clock.advance(60_000);
  times.keep(unreached, [condition('Degraded', 60_000)]);
  expect(times.of('cluster')).toEqual([{ type: 'Degraded', since: 60_000 }]);
});

test('the store gives back what holds, and nothing else', async () => {
  const store = await testStore();
  const leader = await lead(store, 'me');
  const { id: clusterId } = await aCluster(store);
  await setConditionTimes(store, leader, clusterId, [
    { type: 'Ready', since: 1 },
    { type: 'AutomationOff', since: 2 },
  ]);
  await setConditionTimes(store, leader, clusterId, [{ type: 'AutomationOff', since: 2 }]);

  expect(await readConditionTimes(store)).toEqual(new Map([[clusterId, [{ type: 'AutomationOff', since: 2 }]]]));
});

test('every condition is a metric, 1 while it holds', () => {
  const cluster = { deletedAt: null };
  const controller = {
    views: () => [aView(undefined, cluster)],
    isConnected: () => true,
    orphans: () => [],
    archives: { window: () => ({ rpoMs: 1500 }) },
  } as unknown as Controller;

  const text = createMetrics({ controller, now: () => 0, conditions: () => [condition('Ready', 1)] })();

  expect(text).toContain('selvedge_cluster_condition{cluster="orders",condition="Ready"} 1\n');
  expect(text).toContain('selvedge_cluster_condition{cluster="orders",condition="WritesBlocked"} 0\n');
  expect(text).toContain('selvedge_archive_rpo_seconds{cluster="orders"} 1.5\n');
});
