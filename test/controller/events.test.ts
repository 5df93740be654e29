/** What people read in the events is news: nothing is told again and again. */
import { afterEach, expect, test } from 'vitest';
import { setAutomation } from '../../src/store/clusters.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

test('members that stay in their place are not announced by the next control plane', async () => {
  scenario = await createScenario();
  await scenario.run(2000);
  const before = (await scenario.events('member.joined')).length;
  await scenario.restartControlPlane();
  await scenario.untilHealthy();
  await scenario.run(5000);

  expect(await scenario.events('member.joined')).toHaveLength(before);

  await scenario.strike({ kind: 'killExecutor', target: 2 });
  await scenario.until('its return', async () => (await scenario.events('member.joined')).length > before);
  const [last] = (await scenario.events('member.joined')).slice(-1);
  expect(last?.ordinal).toBe(2);
});

test('a member that is refused again and again is told once', async () => {
  scenario = await createScenario();
  const { store } = scenario.simulation.world;
  const { primary } = await scenario.cluster();
  await setAutomation(store, scenario.clusterId, { mode: 'off', until: null });
  await scenario.change('failover', { force: true });
  await scenario.until('another primary', async () => (await scenario.cluster()).primary !== primary);
  await scenario.run(120_000);

  const refusals = (await scenario.events('member.refused')).filter(({ data }) => data['code'] === 'HELD');

  expect(refusals).toHaveLength(1);
  expect(refusals[0]).toMatchObject({ ordinal: primary });
});
