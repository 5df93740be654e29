/** A member that lost a volume, in the simulated world: who is filled anew, who is asked, and what is never touched. */
import { afterEach, expect, test } from 'vitest';
import { describeLoss } from '../../src/controller/lost-volumes.ts';
import { listBackups, openBackup } from '../../src/store/backups.ts';
import { setAutomation } from '../../src/store/clusters.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

const store = () => scenario.simulation.world.store;
const loss = (ordinal: number) => {
  const view = scenario.view();
  return describeLoss(view, view.members[ordinal]!, scenario.simulation.world.time.now());
};
const isLost = (ordinal: number) => () => loss(ordinal) !== null;

async function backUp(ordinal: number): Promise<string> {
  const id = scenario.simulation.world.newId();
  await openBackup(store(), { id, clusterId: scenario.clusterId, ordinal, requestedBy: 'a person' });
  scenario.wake();
  await scenario.until('the backup', async () =>
    (await listBackups(store(), scenario.clusterId)).some((row) => row.id === id && row.state === 'complete'),
  );
  return id;
}

test.each([
  ['with a backup volume', true, 'data'],
  ['without one', false, 'data'],
  ['and the backup volume with it', true, 'both'],
] as const)(
  'a replica’s data volume is emptied, %s: it is filled anew and votes again',
  async (_, hasBackup, volume) => {
    scenario = await createScenario({ hasClients: true, hasBackup });
    await scenario.strike({ kind: 'emptyVolume', target: 1, volume });
    await scenario.until('a rebuild', async () => (await scenario.rebuilds()).some(({ state }) => state === 'done'));
    await scenario.untilHealthy();

    expect(await scenario.rebuilds()).toMatchObject([{ ordinal: 1, requestedBy: 'automation', state: 'done' }]);
    expect((await scenario.cluster()).epoch).toBe(1);
    if (hasBackup) await scenario.until('both volumes', () => loss(1) === null);
  },
);

test('the primary’s data volume is emptied: another one takes over first', async () => {
  scenario = await createScenario({ hasClients: true });
  await scenario.strike({ kind: 'emptyVolume', target: 'primary', volume: 'both' });
  await scenario.until('another primary', async () => (await scenario.cluster()).epoch === 2);
  await scenario.untilHealthy();

  const [rebuild] = await scenario.rebuilds();
  expect(rebuild).toMatchObject({ ordinal: 0, state: 'done' });
  expect(rebuild?.way).toMatch(/^clone:/);
  scenario.simulation.world.checks.checkPrimaries();
  expect(scenario.simulation.world.checks.violations).toEqual([]);
});

test('the only member’s is never filled anew', async () => {
  scenario = await createScenario({ members: 1, hasClients: true });
  await scenario.strike({ kind: 'emptyVolume', target: 0, volume: 'data' });
  await scenario.until('it is told', isLost(0));
  await scenario.run(120_000);

  expect(await scenario.rebuilds()).toEqual([]);
  expect(loss(0)).toContain('make another cluster from its backups');
  expect(scenario.member(0).options.data?.marker).toBe(null);
});

test('an empty directory that may be an unmounted disk is left alone', async () => {
  scenario = await createScenario({ hasClients: true });
  await scenario.strike({ kind: 'diskAway', target: 1, ms: 60_000 });
  await scenario.until('it is told', isLost(1));
  await scenario.run(30_000);

  expect(loss(1)).toContain('mount it, or, when it is gone, ask for a rebuild of member 1');
  expect(await scenario.rebuilds()).toEqual([]);

  await scenario.untilHealthy(240_000);
  expect(await scenario.rebuilds()).toEqual([]);
});

test('with automation off it says what it would do, and does it once it is on', async () => {
  scenario = await createScenario({ hasClients: true });
  const switchTo = (mode: 'on' | 'off') => setAutomation(store(), scenario.clusterId, { mode, until: null });
  await switchTo('off');
  await scenario.strike({ kind: 'emptyVolume', target: 1, volume: 'data' });
  await scenario.strike({ kind: 'emptyVolume', target: 2, volume: 'backup' });
  await scenario.until('both are told', () => isLost(1)() && isLost(2)());
  await scenario.run(60_000);

  expect(loss(1)).toContain('automation is off, else it would be filled anew');
  expect(loss(2)).toContain('automation is off, else it would be taken');
  expect(await scenario.rebuilds()).toEqual([]);
  expect((await scenario.events('member.refused')).map(({ data }) => data['code'])).toContain('VOLUME_LOST');

  await switchTo('on');
  await scenario.untilHealthy();
  await scenario.until('nothing is lost', () => loss(1) === null && loss(2) === null);
});

test('a backup volume is emptied: taken anew beside the data, its rows closed, a full backup made', async () => {
  scenario = await createScenario({ hasClients: true });
  const lost = await backUp(1);
  const { marker } = scenario.member(1).options.data!;
  await scenario.strike({ kind: 'emptyVolume', target: 1, volume: 'backup' });
  await scenario.untilHealthy();
  await scenario.until('a new backup', async () =>
    (await listBackups(store(), scenario.clusterId)).some(({ id, state }) => id !== lost && state === 'complete'),
  );

  const rows = await listBackups(store(), scenario.clusterId);
  expect(rows).toMatchObject([
    { ordinal: 1, state: 'complete', requestedBy: 'automation' },
    { id: lost, state: 'removed', removalReason: 'it was lost with its volume' },
  ]);
  expect(scenario.member(1).options.data?.marker).toEqual(marker);
  expect(await scenario.rebuilds()).toEqual([]);
  expect(await scenario.events('backup.volume')).toHaveLength(1);
  await scenario.run(60_000);
  expect(await listBackups(store(), scenario.clusterId)).toHaveLength(2);

  await scenario.strike({ kind: 'emptyVolume', target: 1, volume: 'backup' });
  await scenario.until('a third one', async () => (await listBackups(store(), scenario.clusterId)).length === 3);
});

test('also of the primary, and when the control plane dies on the way', async () => {
  scenario = await createScenario({ hasClients: true });
  await backUp(0);
  await scenario.strike({ kind: 'emptyVolume', target: 'primary', volume: 'backup' });
  await scenario.strike({ kind: 'killAtCommand', count: 3, when: 'after' });
  await scenario.untilHealthy();
  await scenario.until('a new backup', async () =>
    (await listBackups(store(), scenario.clusterId)).some(
      ({ requestedBy, state }) => requestedBy === 'automation' && state === 'complete',
    ),
  );

  const rows = await listBackups(store(), scenario.clusterId);
  expect(rows.filter(({ state }) => state === 'complete')).toHaveLength(1);
});
