import { afterEach, expect, test } from 'vitest';
import { createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember } from '../demo/processes.ts';
import { clusterName, waitGone, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';
import { type Disks, mountDisks } from '../fire/disks.ts';

let plane: ControlPlane | null = null;
let disks: Disks | null = null;

afterEach(async () => {
  await plane?.destroy(removeRunDirectories);
});

/** null, with the reason printed, where disks may not be mounted. */
function tryDisks(of: ControlPlane): Disks | null {
  try {
    return mountDisks(of, 1);
  } catch (error) {
    console.log(`no disk can be filled here: ${(error as Error).message.split('\n')[0]}`);
    return null;
  }
}

test('a member whose disk is full is told, and deleted without waiting for a clean end', async () => {
  plane = await createControlPlane({ agents: 1 });
  disks = tryDisks(plane);
  if (!disks) return;
  const { calm, unmount } = disks;
  try {
    await plane.start();
    const api = createApiClient(plane.apiUrl);
    const volumes = { data: { type: 'mount', sizeMb: 1024 }, backup: null };
    const { id } = await api.create({ name: clusterName, members: 1, resources: { cpus: 0.5, memMb: 512 }, volumes });
    await waitReady(api);
    const [home] = await readHomes(api, id);
    disks.fill(home?.dataDir ?? '');
    await waitFor({ what: 'a condition', timeoutMs: 30_000 }, async () =>
      (await api.cluster(clusterName)).conditions.some(({ message }) => /its data volume is \d+% full/.test(message)),
    );
    // Without this mysqld would end well: it waits for room only when it has something to write.
    await waitFor({ what: 'heartbeats that hang', timeoutMs: 30_000 }, async () =>
      (await api.cluster(clusterName)).conditions.some(({ type }) => type === 'WritesBlocked'),
    );

    await api.remove(clusterName);
    await waitGone(api);

    expect(findMember(id, 0)).toBeNull();
  } finally {
    calm();
    await plane.destroy((dataDir) => {
      removeRunDirectories(dataDir);
      unmount();
    });
  }
}, 180_000);
