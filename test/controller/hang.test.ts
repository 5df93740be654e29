/** A real primary that hangs while automation is off: a stopped process, and a frozen disk where one can be mounted. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Api, type ClusterAnswer, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';
import { type Disks, mountDisks } from '../fire/disks.ts';

let plane: ControlPlane;
let api: Api;
let disks: Disks | null = null;
let clusterId = '';
const members = 3;

beforeAll(async () => {
  plane = await createControlPlane({ agents: members });
  try {
    disks = mountDisks(plane, members);
  } catch (error) {
    console.log(`no disk can be frozen here: ${(error as Error).message.split('\n')[0]}`);
  }
  await plane.start();
  api = createApiClient(plane.apiUrl);
  clusterId = (await api.create(clusterBody)).id;
  await waitReady(api);
}, 120_000);
afterAll(async () => {
  disks?.calm();
  await plane?.destroy((dataDir) => {
    removeRunDirectories(dataDir);
    disks?.unmount();
  });
}, 60_000);

type Hang = Readonly<Record<'begin' | 'end', (primary: number) => Promise<void>>>;

function pidOf(ordinal: number): number {
  const { mysqld } = findMember(clusterId, ordinal) ?? {};
  if (!mysqld) throw new Error(`no mysqld of member ${ordinal} runs`);
  return mysqld.pid;
}

const stoppedProcess: Hang = {
  begin: async (primary) => {
    process.kill(pidOf(primary), 'SIGSTOP');
  },
  // It was ended meanwhile: a stopped process does not outlive SIGKILL.
  end: async () => {},
};
const dataDirOf = async (ordinal: number) =>
  (await readHomes(api, clusterId)).find((each) => each.ordinal === ordinal)!.dataDir;
const frozenDisk: Hang = {
  begin: async (primary) => disks?.freeze(await dataDirOf(primary)),
  end: async () => disks?.calm(),
};

const waitEpoch = (epoch: number): Promise<ClusterAnswer> =>
  waitFor({ what: 'another primary', timeoutMs: 30_000, everyMs: 50 }, async () => {
    const cluster = await api.cluster(clusterName);
    return cluster.epoch > epoch ? cluster : null;
  });

/** Until the state says that the primary hangs and why nobody follows. Nothing was opened by then. */
async function hangWhileOff(hang: Hang): Promise<{ readonly primary: number; readonly epoch: number }> {
  await api.releaseCooldown(clusterName);
  const { primary, epoch } = await waitReady(api);
  const before = (await api.failovers(clusterName)).length;
  await api.setAutomation(clusterName, 'off');
  await hang.begin(primary!);
  await waitFor({ what: 'the condition', timeoutMs: 30_000 }, async () => {
    const { conditions, state } = await api.cluster(clusterName);
    const told = conditions.find(({ type }) => type === 'WritesBlocked');
    return state === 'blocked' && told?.reason === 'PrimaryHangs' && told.message.includes('automation is off');
  });
  expect((await api.cluster(clusterName)).epoch).toBe(epoch);
  expect(await api.failovers(clusterName)).toHaveLength(before);
  return { primary: primary!, epoch };
}

const hangs: readonly [name: string, hang: Hang, isPossible: () => boolean][] = [
  ['a stopped process', stoppedProcess, () => true],
  ['a frozen data disk', frozenDisk, () => disks !== null],
];

test.each(hangs)(
  '%s, automation off: nobody follows until a person asks; then at once',
  async (_, hang, isPossible) => {
    if (!isPossible()) return;
    const { primary, epoch } = await hangWhileOff(hang);
    try {
      const { id } = await api.changePrimary(clusterName, { kind: 'failover', reason: 'it hangs' });
      const after = await waitEpoch(epoch);

      expect(after.primary).not.toBe(primary);
      const change = await waitFor({ what: 'its end', timeoutMs: 30_000 }, async () =>
        (await api.failovers(clusterName)).find((one) => one.id === id && one.outcome === 'done'),
      );
      console.log(`failed over by hand after ${change.endedAt! - change.startedAt} ms, fence: ${change.fence?.layer}`);
    } finally {
      await hang.end(primary);
    }
    await api.setAutomation(clusterName, 'on');
    await waitReady(api);
  },
  180_000,
);

test.each(hangs)(
  '%s, automation off: when it is switched on it acts',
  async (_, hang, isPossible) => {
    if (!isPossible()) return;
    const { primary, epoch } = await hangWhileOff(hang);
    try {
      await api.setAutomation(clusterName, 'on');

      expect((await waitEpoch(epoch)).primary).not.toBe(primary);
    } finally {
      await hang.end(primary);
    }
    await waitReady(api);
    const [change] = await api.failovers(clusterName);
    expect(change).toMatchObject({ kind: 'failover', requestedBy: 'automation', outcome: 'done' });
  },
  180_000,
);
