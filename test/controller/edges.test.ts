/** What people ask for at the wrong moment, or of the wrong member: a code, and nothing is touched. */
import { afterEach, describe, expect, test } from 'vitest';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

/** Asks, waits for the end and answers the code of the refusal. */
async function ask(...request: Parameters<Scenario['change']>): Promise<string | null> {
  const { id } = await scenario.change(...request);
  const find = async () => (await scenario.failovers()).find((row) => row.id === id)!;
  await scenario.until('an end', async () => (await find()).outcome !== 'open');
  return (await find()).refusal?.code ?? null;
}

const untouched = async () => {
  expect(await scenario.cluster()).toMatchObject({ epoch: 1, primary: 0 });
  expect(scenario.isWritable(0)).toBe(true);
};
/** A command of this kind was sent since the start. */
const sent = (kind: string) =>
  scenario.simulation.world.story.lines().some((line) => line.includes(`"kind":"${kind}"`));

describe('nothing is touched', () => {
  test('a failover of a healthy primary without force: PRIMARY_HEALTHY', async () => {
    scenario = await createScenario();

    expect(await ask('failover')).toBe('PRIMARY_HEALTHY');

    await untouched();
    expect(sent('fence')).toBe(false);
  });

  test('a switchover to a member whose receiver stands and which is far behind: CANDIDATE_NOT_READY', async () => {
    scenario = await createScenario();
    scenario.member(2).instance!.applyMs = 60_000;
    await scenario.run(15_000);

    expect(await ask('switchover', { candidate: 2 })).toBe('CANDIDATE_NOT_READY');

    await untouched();
    expect(sent('demote')).toBe(false);
  });

  test('a switchover to a member that is not reached: CANDIDATE_NOT_READY', async () => {
    scenario = await createScenario();
    await scenario.strike({ kind: 'isolate', target: 2, ms: 30_000 });
    await scenario.run(10_000);

    expect(await ask('switchover', { candidate: 2 })).toBe('CANDIDATE_NOT_READY');

    await untouched();
    expect(sent('demote')).toBe(false);
  });

  test('a second change while one is open: OPERATION_OPEN', async () => {
    scenario = await createScenario();
    scenario.member(1).instance!.applyMs = 60_000;
    await scenario.run(5000);
    await scenario.change('switchover', { candidate: 1, maxPauseMs: 1000 });

    await expect(scenario.change('failover', { force: true })).rejects.toMatchObject({ code: 'OPERATION_OPEN' });
  });

  test.each(['switchover', 'failover'] as const)('a %s of a single member: NO_CANDIDATE', async (kind) => {
    scenario = await createScenario({ members: 1 });

    expect(await ask(kind, { force: true })).toBe('NO_CANDIDATE');

    await untouched();
    expect(sent('fence')).toBe(false);
  });
});

test('a switchover of a dead primary: PRIMARY_NOT_READY, and automation fails over', async () => {
  scenario = await createScenario();
  await scenario.strike({ kind: 'isolate', target: 'primary', ms: 60_000 });
  await scenario.run(8000);

  expect(await ask('switchover')).toBe('PRIMARY_NOT_READY');

  await scenario.until('a failover', async () => (await scenario.cluster()).epoch === 2);
  await scenario.untilHealthy();
});

test('two members that promise nothing: nobody follows a silent primary, and it is back', async () => {
  scenario = await createScenario({ members: 2, durability: 'async' });
  await scenario.strike({ kind: 'isolate', target: 'primary', ms: 60_000 });
  await scenario.run(15_000);
  const isQuiet = async () => (await scenario.failovers()).every(({ outcome }) => outcome !== 'open');
  await scenario.until('the end of what automation tries', isQuiet);

  expect(await ask('failover', { force: true })).toBe('PROMOTION_UNSAFE');

  await scenario.untilHealthy();
  await untouched();
});

test('two members with one acknowledgement: a dead primary is followed, and comes back', async () => {
  scenario = await createScenario({ members: 2, durability: 'one', hasClients: true });
  await scenario.strike({ kind: 'killMysqld', target: 'primary' });

  await scenario.until('a failover', async () => (await scenario.cluster()).epoch === 2);

  await scenario.untilHealthy();
});

test.each(['rebootAll', 'killAllMysqld'] as const)('everything down at once and back: %s', async (kind) => {
  scenario = await createScenario({ hasClients: true });
  await scenario.strike({ kind });
  await scenario.until('its end', () => !scenario.isWritable(0));

  await scenario.untilHealthy();

  // At most a former primary whose tail was looked for.
  expect((await scenario.rebuilds()).filter(({ way }) => way !== 'trim')).toEqual([]);
});
