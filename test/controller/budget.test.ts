/** Rebuilds by themselves have a budget and a back-off, and neither begins anew with the control plane. */
import { afterEach, expect, test } from 'vitest';
import type { Command, CommandResult } from '../../src/channel/protocol.ts';
import { lead } from '../../src/store/leadership.ts';
import { closeRebuild, openRebuild } from '../../src/store/rebuilds.ts';
import type { RebuildRow } from '../../src/store/rows.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

/** As when somebody removed the files: mysqld ends, and does not start again. */
function loseData(ordinal: number): void {
  const { world } = scenario.simulation;
  for (const volume of world.disks.volumes()) {
    if (volume.marker?.ordinal === ordinal && volume.data && volume.marker.fill === 'filled') volume.data = null;
  }
  scenario.member(ordinal).instanceKilled();
}

async function rebuildOnce(count: number): Promise<void> {
  loseData(2);
  await scenario.until(`rebuild ${count}`, async () => (await scenario.rebuilds()).length === count);
  await scenario.untilHealthy();
}

const budgetRefusals = async () =>
  (await scenario.events('member.refused')).filter(({ data }) => data['code'] === 'REBUILD_BUDGET');

test('three within an hour, also over restarts of the control plane; then a person is asked, once', async () => {
  scenario = await createScenario();
  await rebuildOnce(1);
  await scenario.restartControlPlane();
  await rebuildOnce(2);
  await rebuildOnce(3);
  await scenario.restartControlPlane();
  await scenario.untilHealthy();
  loseData(2);
  await scenario.until('a refusal', async () => (await budgetRefusals()).length > 0);
  await scenario.run(120_000);

  expect(await scenario.rebuilds()).toHaveLength(3);
  expect(await budgetRefusals()).toHaveLength(1);
  expect((await budgetRefusals())[0]?.ordinal).toBe(2);

  // An hour later the budget has room again.
  scenario.simulation.world.store.db.exec('UPDATE rebuild SET started_at = started_at - 3600000');
  await scenario.until('another rebuild', async () => (await scenario.rebuilds()).length === 4);
  await scenario.untilHealthy();
});

test('a member that a rebuild filled after it was given up is filled anew: nobody knows who it is', async () => {
  scenario = await createScenario();
  const { clusterId, simulation } = scenario;
  const { newId, store } = simulation.world;
  const names = { incarnation: newId(), serverUuid: newId() };
  await openRebuild(store, {
    id: newId(),
    clusterId,
    ordinal: 2,
    reason: 'asked for',
    requestedBy: 'a person',
    ...names,
  });
  scenario.wake();
  await scenario.until('it is filled', () => scenario.member(2).phase === 'rebuilding');
  const [{ id }] = (await scenario.rebuilds()) as [RebuildRow];
  await closeRebuild(store, await lead(store, 'a test'), id, { state: 'failed' });
  await scenario.restartControlPlane();
  await scenario.until('another rebuild', async () => (await scenario.rebuilds()).length === 2);
  await scenario.untilHealthy();

  const again = (await scenario.rebuilds()).find(({ requestedBy }) => requestedBy === 'automation');
  expect(again).toMatchObject({ ordinal: 2, state: 'done', reason: expect.stringContaining('given up') });
  expect(scenario.member(2).status().incarnation).toBe(again?.incarnation);
});

test('tries of one rebuild are counted in the store, and the pause between starts grows over a restart', async () => {
  scenario = await createScenario({ hasBackup: false });
  const { net } = scenario.simulation.world;
  // The member reaches no donor: every CLONE fails.
  const [own, ...others] = [2, 0, 1].map((ordinal) => scenario.member(ordinal).options.plan.address);
  for (const other of others) net.cut(own!, other);
  loseData(2);
  await scenario.until('two tries', async () => ((await scenario.rebuilds())[0]?.attempts ?? 0) >= 2);
  await scenario.restartControlPlane();
  await scenario.run(1000);

  expect((await scenario.rebuilds())[0]?.attempts).toBeGreaterThanOrEqual(2);
  await scenario.until('the end of the first', async () => (await scenario.rebuilds()).at(-1)?.state === 'failed');
  expect((await scenario.rebuilds()).at(-1)).toMatchObject({ attempts: 4 });

  for (const other of others) net.mend(own!, other);
  await scenario.untilHealthy();
});

test('while the primary is away a rebuild waits without using up its tries', async () => {
  scenario = await createScenario({ hasBackup: false });
  loseData(2);
  await scenario.until('a rebuild', async () => (await scenario.rebuilds()).length > 0);
  const { primary } = await scenario.cluster();
  const replica = [0, 1].find((ordinal) => ordinal !== primary)!;
  // Nobody knows what became of them, for minutes.
  await scenario.strike(
    { kind: 'isolate', target: primary!, ms: 400_000 },
    { kind: 'isolate', target: replica, ms: 400_000 },
  );
  await scenario.run(390_000);

  // One may have failed before anybody knew.
  expect((await scenario.rebuilds())[0]?.attempts).toBeLessThanOrEqual(1);
  await scenario.untilHealthy();

  expect((await scenario.rebuilds()).at(-1)).toMatchObject({ ordinal: 2, state: 'done' });
}, 30_000);

test('what cannot be saved before stops the rebuild at once, and a person goes on with force', async () => {
  scenario = await createScenario({ hasBackup: false });
  const { clusterId, simulation } = scenario;
  const { newId, store } = simulation.world;
  const replica = scenario.member(2) as { submit: (command: Command) => Promise<CommandResult> };
  const { submit } = replica;
  const keeps: string[] = [];
  replica.submit = async (command) => {
    if (command.kind === 'rebuild') keeps.push(command.save?.keep ?? '');
    const isRequired = command.kind === 'rebuild' && command.save?.isRequired === true;
    return isRequired ? { outcome: 'refused', code: 'LEFTOVER_NOT_SAVED', message: 'no room' } : submit(command);
  };
  const ask = async (isForced: boolean) => {
    const id = newId();
    const asked = { reason: 'asked for', requestedBy: 'a person', incarnation: newId(), serverUuid: newId(), isForced };
    await openRebuild(store, { id, clusterId, ordinal: 2, ...asked });
    scenario.wake();
    const find = async () => (await scenario.rebuilds()).find((row) => row.id === id)!;
    await scenario.until('an end', async () => (await find()).state !== 'open');
    return find();
  };

  expect(await ask(false)).toMatchObject({ state: 'failed', code: 'LEFTOVER_NOT_SAVED', attempts: 0 });
  expect(keeps).toHaveLength(1);
  await scenario.untilHealthy();

  expect(await ask(true)).toMatchObject({ state: 'done' });
  // All that the primary has, and all that it may ever issue.
  expect(keeps.at(-1)).toMatch(/:1-9223372036854775806/);
  await scenario.untilHealthy();
});
