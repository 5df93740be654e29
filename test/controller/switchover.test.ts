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

/** Nothing is heard of the control plane from the middle of the pause on, for much longer than a lease. */
async function pauseAndLose(
  applyMs = 60_000,
  ms = 60_000,
): Promise<{ readonly id: string; readonly pausedAt: number }> {
  scenario = await createScenario({ hasClients: true });
  scenario.member(1).instance!.applyMs = applyMs;
  await scenario.run(5000);
  const { id } = await scenario.change('switchover', { candidate: 1, maxPauseMs: 1500 });
  const { now } = scenario.simulation.world.time;
  await scenario.until('a pause', () => !scenario.isWritable(0));
  const pausedAt = now();
  await scenario.until('its word', async () => (await scenario.failovers()).some((row) => row.facts.fence));
  await scenario.strike({ kind: 'pauseController', ms, hasSuccessor: false });
  return { id, pausedAt };
}

test('a control plane that does not come back: the old primary ends the pause by itself, and nothing is lost', async () => {
  const { id, pausedAt } = await pauseAndLose();

  await scenario.until('the old primary takes writes', () => scenario.isWritable(0), 10_000);

  const tookMs = scenario.simulation.world.time.now() - pausedAt;
  expect(tookMs).toBeGreaterThan(1500);
  expect(tookMs).toBeLessThan(3500);
  scenario.member(1).instance!.applyMs = 2;
  await scenario.run(70_000);
  const row = (await scenario.failovers()).find((one) => one.id === id);
  expect(row).toMatchObject({
    outcome: 'refused',
    steps: expect.arrayContaining([expect.objectContaining({ name: 'taken back' })]),
  });
  expect(await scenario.cluster()).toMatchObject({ epoch: 1, primary: 0 });
  await scenario.untilHealthy();
});

test('a control plane that wakes when the candidate has caught up and the pause was ended: nobody commits', async () => {
  const { id } = await pauseAndLose(1000, 20_000);
  scenario.member(1).instance!.applyMs = 2;
  await scenario.until('the old primary takes writes', () => scenario.isWritable(0), 10_000);
  await scenario.run(20_000);

  await scenario.until(
    'an end',
    async () => (await scenario.failovers()).find((one) => one.id === id)?.outcome !== 'open',
  );
  const row = (await scenario.failovers()).find((one) => one.id === id);
  expect(row?.refusal).toMatchObject({ code: 'PAUSE_ENDED' });
  expect(await scenario.cluster()).toMatchObject({ epoch: 1, primary: 0 });
  await scenario.untilHealthy();
});

test('past the commit point a paused primary stays paused, however long nothing is heard', async () => {
  scenario = await createScenario({ hasClients: true });
  await scenario.strike({ kind: 'lateCommands', ms: 20_000, count: 9, command: 'follow' });
  await scenario.change('switchover', { candidate: 1, maxPauseMs: 1500 });
  await scenario.until('the commit point', async () => (await scenario.cluster()).epoch === 2);
  const { now } = scenario.simulation.world.time;
  const committedAt = now();

  while (now() < committedAt + 15_000) {
    await scenario.run(100);
    expect(scenario.isWritable(0)).toBe(false);
  }
  await scenario.untilHealthy();
});
