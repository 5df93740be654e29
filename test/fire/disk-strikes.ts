/** Disks that hang, fill, or take no writes. */
import { waitFor } from '../demo/wait.ts';
import type { Strike } from './strike.ts';
import { look, pause, replicasOf } from './world.ts';

const frozenMs = 20_000;

export const ofDisks: readonly Strike[] = [
  {
    name: "primary's data disk frozen",
    changesPrimary: 'yes',
    strike: async (world) => {
      const { epoch, primary } = await look(world);
      const path = world.homes[primary ?? 0]?.dataDir ?? '';
      world.disks?.freeze(path);
      const { signal } = world;
      try {
        const hasChanged = async () => (await look(world)).epoch > epoch;
        await waitFor({ what: 'another primary', timeoutMs: frozenMs, signal }, hasChanged);
      } finally {
        world.disks?.thaw(path);
      }
      return `member ${primary}`;
    },
  },
  {
    name: "replica's data disk full",
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ordinal = random.pick(replicasOf(await look(world)));
      const path = world.homes[ordinal]?.dataDir ?? '';
      world.disks?.fill(path);
      const ms = random.between(3000, 8000);
      try {
        await pause(world, ms);
      } finally {
        world.disks?.empty(path);
      }
      return `member ${ordinal}, ${ms} ms`;
    },
  },
];
