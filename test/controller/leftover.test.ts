/** A former primary whose executor was silent, and which is still writable when it is heard of again. */
import { afterEach, expect, test } from 'vitest';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

const lines = () => scenario.simulation.world.story.lines();

test.each([3, 5])('of %i members: fenced, held, trimmed, and a replica of the new one', async (members) => {
  scenario = await createScenario({ members, hasClients: true });
  await scenario.strike({ kind: 'isolate', target: 'primary', ms: 30_000 });
  const tookMs = await scenario.until('another primary', async () => (await scenario.cluster()).epoch === 2);
  expect(tookMs).toBeGreaterThanOrEqual(10_000);
  const [change] = await scenario.failovers();
  expect(change?.facts.fence?.layer).toBe('quorum');
  // Nobody could tell it: in MySQL's sense it takes writes, and acknowledges none.
  expect(scenario.isWritable(0)).toBe(true);

  await scenario.until('its end', () => !scenario.isWritable(0));
  await scenario.untilHealthy();

  expect(lines().some((line) => line.includes('a former primary is still writable: it is fenced'))).toBe(true);
  expect((await scenario.rebuilds()).at(-1)).toMatchObject({ ordinal: 0, way: 'trim', state: 'done' });
});

test('also when the control plane was started anew meanwhile', async () => {
  scenario = await createScenario({ hasClients: true });
  await scenario.strike({ kind: 'isolate', target: 'primary', ms: 40_000 });
  await scenario.until('another primary', async () => (await scenario.cluster()).epoch === 2);
  await scenario.restartControlPlane();

  await scenario.until('its end', () => !scenario.isWritable(0));
  await scenario.untilHealthy();

  expect((await scenario.rebuilds()).at(-1)).toMatchObject({ ordinal: 0, way: 'trim', state: 'done' });
});
