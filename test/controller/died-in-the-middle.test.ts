/** A primary that dies while a person changes it: automation goes on at once. */
import { afterEach, expect, test } from 'vitest';
import { wasTriedInVain } from '../../src/controller/automation.ts';
import type { FailoverRow } from '../../src/store/rows.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

/** Virtual milliseconds until somebody takes writes in a later epoch. */
function untilTakenOver(epoch: number): Promise<number> {
  return scenario.until('another primary that takes writes', async () => {
    const now = await scenario.cluster();
    return now.epoch > epoch && now.activatedAt !== null && scenario.isWritable(now.primary!);
  });
}

const hasSent = (kind: string) => () =>
  scenario.simulation.world.story.lines().some((line) => line.includes(`"kind":"${kind}"`));

test.each([0, 3, 6, 9, 12, 15, 20])('of a switchover, %i ms after it was told to hand over', async (ms) => {
  scenario = await createScenario();
  const { epoch, primary } = await scenario.cluster();
  await scenario.change('switchover');
  await scenario.until('demote', hasSent('demote'));
  await scenario.run(ms);
  await scenario.strike({ kind: 'killMysqld', target: primary! });

  const tookMs = await untilTakenOver(epoch);

  expect(tookMs).toBeLessThan(1000);
  await scenario.untilHealthy();
});

test.each([0, 3, 6, 9, 12])('of a forced failover, %i ms after its fence was sent', async (ms) => {
  scenario = await createScenario();
  const { epoch, primary } = await scenario.cluster();
  await scenario.change('failover', { force: true });
  await scenario.until('fence', hasSent('fence'));
  await scenario.run(ms);
  await scenario.strike({ kind: 'killMysqld', target: primary! });

  expect(await untilTakenOver(epoch)).toBeLessThan(1000);
  await scenario.untilHealthy();
});

test('a forced failover to a member that cannot ends the primary: the best one follows at once', async () => {
  scenario = await createScenario();
  const { epoch, primary } = await scenario.cluster();
  await scenario.strike({ kind: 'slowApplier', target: 2, ms: 30_000 });
  scenario.member(2).instance!.stopReceiver();
  await scenario.change('failover', { force: true, candidate: 2 });

  expect(await untilTakenOver(epoch)).toBeLessThan(5000);

  expect((await scenario.cluster()).primary).not.toBe(primary);
  await scenario.untilHealthy();
});

test('only a failover that automation would repeat holds the next one back', () => {
  const row = { kind: 'failover', fromEpoch: 3, outcome: 'refused', requestedBy: 'automation', candidate: null };
  const tried = (change: object) => wasTriedInVain({ ...row, ...change } as FailoverRow, 3);
  const unsafe = { code: 'PROMOTION_UNSAFE', message: '' };

  expect(tried({})).toBe(true);
  expect(tried({ outcome: 'aborted' })).toBe(true);
  expect(tried({ requestedBy: 'a person', refusal: unsafe })).toBe(true);
  expect(tried({ requestedBy: 'a person', refusal: unsafe, candidate: 2 })).toBe(false);
  expect(tried({ requestedBy: 'a person', refusal: { code: 'COMMAND_FAILED', message: '' } })).toBe(false);
  expect(tried({ kind: 'switchover' })).toBe(false);
  expect(tried({ fromEpoch: 2 })).toBe(false);
  expect(tried({ outcome: 'done' })).toBe(false);
  expect(wasTriedInVain(undefined, 3)).toBe(false);
});
