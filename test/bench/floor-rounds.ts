/** The floor, measured. Every round has instances of its own: what it leaves behind is not worth mending. */
import { realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { readGtids, waitExecuted } from '../../src/mysql/gtid.ts';
import { now } from '../demo/wait.ts';
import { destroyInstances } from '../mysql/instance.ts';
import { type Load, measureChange, measureRate, pacedLoad, saturatedLoad } from './contender.ts';
import type { ComparedName, Sample } from './figures.ts';
import { type Floor, type FloorOptions, failOverFloor, floorLogin, provisionFloor, switchFloorOver } from './floor.ts';

const catchUpTimeoutMs = 60_000;

const target = ({ endpoints, caPem }: Floor) => ({ endpoints, caPem, login: floorLogin });

export const createFloorRounds = (options: FloorOptions): Record<ComparedName, () => Promise<Sample>> => ({
  async provision() {
    const startedAt = now();
    const floor = await provisionFloor(options);
    const { host, port } = floor.primary().endpoint;
    const session = await connect({ host, port, caPem: floor.caPem }, floorLogin, { clock: realClock });
    await session.query('CREATE DATABASE first');
    const totalMs = now() - startedAt;
    await session.close();
    await destroyInstances();
    return { totalMs, workMs: null };
  },
  failover: () => measureFailover(options, pacedLoad),
  'failover-saturated': () => measureFailover(options, saturatedLoad),
  // Nobody stands between the floor and its clients.
  'failover-service': () => measureFailover(options, pacedLoad),
  switchover: () => measureSwitchover(options),
  'switchover-service': () => measureSwitchover(options),
});

async function measureSwitchover(options: FloorOptions): Promise<Sample> {
  const floor = await provisionFloor(options);
  const sample = await measureChange(target(floor), async () => {
    const { startedAt, ended } = switchFloorOver(floor);
    return { at: startedAt, ended: ended.then(() => undefined) };
  });
  await destroyInstances();
  return sample;
}

/** Three mysqlds that stay, in sessions of their own; answers how fast they commit now, when replicas are idle again. */
export async function startRateFloor(): Promise<(seconds: number) => Promise<number>> {
  const floor = await provisionFloor({ hasOwnSession: true });
  return async (seconds) => {
    const rate = await measureRate(target(floor), seconds);
    const { executed } = await readGtids(floor.primary().session);
    const replicas = floor.members.filter((each) => each !== floor.primary());
    await Promise.all(replicas.map(({ session }) => waitExecuted(session, executed, catchUpTimeoutMs)));
    return rate;
  };
}

async function measureFailover(options: FloorOptions, load: Load): Promise<Sample> {
  const floor = await provisionFloor(options);
  const change = async () => {
    const { killedAt, ended } = failOverFloor(floor);
    return { at: killedAt, ended: ended.then(() => undefined) };
  };
  const sample = await measureChange(target(floor), change, load);
  await destroyInstances();
  return sample;
}
