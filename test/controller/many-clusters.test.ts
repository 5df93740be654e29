/** Many clusters of one control plane, in the simulated world: what befalls one does not wait for the others. */
import { afterEach, expect, test } from 'vitest';
import { getCluster } from '../../src/store/clusters.ts';
import { findUnhealthy } from '../simulation/health.ts';
import { createRandom } from '../simulation/random.ts';
import { createRunner, createSimulation } from '../simulation/simulation.ts';
import type { Simulation } from '../simulation/types.ts';
import { addCluster, createWorld } from '../simulation/world.ts';

const count = 30;
const agents = 14;
const members = 3;
const stepMs = 100;
const restSeconds = 10;
let simulation: Simulation;

afterEach(() => {
  for (const { controller, process } of simulation?.planes ?? []) {
    controller.stop();
    process.kill();
  }
  simulation?.world.store.close();
});

test(`the primaries of ${count} clusters die in one moment: each is followed as if it were alone`, async () => {
  const random = createRandom(1).fork('many clusters');
  const world = await createWorld({ random, agents, mutants: new Set() });
  const ids: string[] = [];
  for (let at = 0; at < count; at += 1)
    ids.push(await addCluster(world, { name: `orders-${at}`, members, hasBackup: false, durability: 'majority' }));
  simulation = createSimulation(world, ids, members, random.fork('plane').next);
  const { until } = createRunner(simulation);
  simulation.startPlane();
  const waitAll = async (what: string, withinMs: number, isDone: (id: string) => boolean | Promise<boolean>) => {
    const from = world.time.now();
    let left = ids;
    while (left.length > 0) {
      if (world.time.now() - from > withinMs)
        throw new Error(`${what}: ${left.length} of ${count} not within ${withinMs} ms`);
      await until(world.time.now() + stepMs);
      const answers = await Promise.all(left.map(async (id) => ({ id, isDone: await isDone(id) })));
      left = answers.filter((one) => !one.isDone).map(({ id }) => id);
    }
    return world.time.now() - from;
  };
  await waitAll('healthy', 600_000, (id) => findUnhealthy(simulation, id) === null);
  const cpuFrom = process.cpuUsage();
  await until(world.time.now() + restSeconds * 1000);
  const { user, system } = process.cpuUsage(cpuFrom);

  for (const id of ids) world.findMember(id, (await getCluster(world.store, id)).primary!)?.member?.instanceKilled();
  const tookMs = await waitAll('another primary', 30_000, async (id) => {
    const { epoch, activatedAt } = await getCluster(world.store, id);
    return epoch === 2 && activatedAt !== null;
  });
  await waitAll('healthy again', 120_000, (id) => findUnhealthy(simulation, id) === null);

  const cpuMs = Math.round((user + system) / 1000 / restSeconds);
  console.log(
    `${count} clusters: all followed within ${tookMs} ms of virtual time; at rest ${cpuMs} ms of CPU a second, world included`,
  );
  expect(tookMs).toBeLessThan(30_000);
}, 120_000);
