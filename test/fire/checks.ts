/** What must hold when the fire is out. */

import { checkHome } from '../demo/homes.ts';
import { clusterName, removeCluster } from '../demo/steps.ts';
import { isFlawless, judge } from '../demo/verdict.ts';
import { waitFor } from '../demo/wait.ts';
import { findAnomaly } from '../simulation/register.ts';
import { findEpochFaults, readHoldings } from './epochs.ts';
import type { World } from './world.ts';

export interface Check {
  readonly name: string;
  readonly told: string;
  /** null: it holds. */
  readonly fault: string | null;
}

async function check(name: string, work: () => Promise<{ told: string; faults: readonly string[] }>): Promise<Check> {
  try {
    const { told, faults } = await work();
    return { name, told, fault: faults.length === 0 ? null : faults.join('; ') };
  } catch (error) {
    return { name, told: '', fault: describe(error) };
  }
}

const describe = (error: unknown): string =>
  error instanceof Error ? [error.message, error.cause ? describe(error.cause) : ''].join(' ').trim() : String(error);

/** Call it when all is ready again. Writers and register are stopped; at the end the cluster is deleted. */
export async function checkAll(world: World): Promise<Check[]> {
  const { writers, register, servicePort } = world;
  await Promise.all([...writers.map((writer) => writer.stop()), register.stop()]);
  await servicePort.stop();
  return [
    await check('rows exactly once on all members', () => checkRows(world)),
    await check('one writer per epoch', () => checkEpochs(world)),
    await check('members on their own volumes', () => checkHomes(world)),
    await check('nothing left after deletion', async () => ({ told: await removeCluster(world), faults: [] })),
    // Last: after half an hour it keeps this process busy for a minute, and idle connections to the API break meanwhile.
    await check('register linearisable', async () => checkRegister(world)),
  ];
}

async function checkRows({ writers, endpoints, login, caPem, signal }: World) {
  await waitFor({ what: 'endpoints of all members', timeoutMs: 20_000, signal }, () => endpoints.all().length === 3);
  const faults: string[] = [];
  let acknowledged = 0;
  let unknown = 0;
  for (const writer of writers) {
    const verdict = await judge(writer, endpoints, login, caPem);
    acknowledged += verdict.acknowledged;
    unknown += verdict.unknown.total;
    if (!isFlawless(verdict)) faults.push(`${writer.table}: ${JSON.stringify(verdict)}`);
  }
  return { told: `${acknowledged} acknowledged, ${unknown} of unknown outcome`, faults };
}

function checkRegister({ register: { history } }: World) {
  const count = (kind: string) => history.filter((each) => each.kind === kind).length;
  const anomaly = findAnomaly(history);
  const told = `${count('read')} reads, ${count('set')} writes, ${count('maybe')} of unknown outcome`;
  return { told, faults: anomaly === null ? [] : [anomaly] };
}

async function checkEpochs(world: World) {
  const [holdings, changes] = await Promise.all([readHoldings(world), world.api.failovers(clusterName)]);
  const told = `${holdings[0]?.epochs.length} epochs, ${Math.max(...holdings.map(({ runs }) => runs.length))} runs in the binary logs`;
  return { told, faults: findEpochFaults(holdings, changes) };
}

async function checkHomes({ api, clusterId, homes }: World) {
  for (const home of homes) await checkHome(api, clusterId, home);
  return { told: 'same agents, volumes and ports', faults: [] };
}
