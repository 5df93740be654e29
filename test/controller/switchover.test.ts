/** A switchover that cannot be done in its time is taken back, and says why. */
import { afterEach, expect, test } from 'vitest';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

test('who does not catch up within the pause is given up, and the old primary takes writes again', async () => {
  scenario = await createScenario();
  const { epoch } = await scenario.cluster();
  scenario.member(1).instance!.applyMs = 60_000;
  await scenario.run(5000);
  const { id } = await scenario.change('switchover', { candidate: 1, maxPauseMs: 1000 });
  const find = async () => (await scenario.failovers()).find((row) => row.id === id)!;
  const { now } = scenario.simulation.world.time;

  await scenario.until('a pause', () => !scenario.isWritable(0));
  const pausedAt = now();
  await scenario.until('the end of the pause', () => scenario.isWritable(0));

  expect(now() - pausedAt).toBeLessThan(1200);
  await scenario.until('an end', async () => (await find()).outcome !== 'open');
  const row = await find();
  expect(row).toMatchObject({ outcome: 'refused', refusal: { code: 'TIMED_OUT' } });
  expect(row.refusal?.message).toContain('member 1 did not catch up within the pause of 1000 ms');
  expect(row.steps.at(-1)).toMatchObject({ name: 'taken back', detail: 'member 0 takes writes again' });
  expect(await scenario.cluster()).toMatchObject({ epoch, primary: 0 });
});

test('a control plane that comes back after the pause takes the switchover back', async () => {
  scenario = await createScenario();
  scenario.member(1).instance!.applyMs = 60_000;
  await scenario.run(5000);
  const { id } = await scenario.change('switchover', { candidate: 1, maxPauseMs: 1500 });
  await scenario.until('a pause', () => !scenario.isWritable(0));
  await scenario.restartControlPlane();

  await scenario.until('the old primary takes writes', () => scenario.isWritable(0), 10_000);

  const row = (await scenario.failovers()).find((one) => one.id === id);
  expect(row?.refusal).toMatchObject({ code: 'TIMED_OUT' });
  scenario.member(1).instance!.applyMs = 2;
  await scenario.untilHealthy();
});
