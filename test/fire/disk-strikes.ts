/** Disks that hang, fill, or take no writes. */
import { findMember, findUsersOf, killProcess } from '../demo/processes.ts';
import { clusterName } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';
import type { Random } from '../simulation/random.ts';
import type { Disks } from './disks.ts';
import type { Strike } from './strike.ts';
import { agentOf, look, pause, postFault, primaryOf, replicasOf, type World } from './world.ts';

/** A hang is no end before 8 s. */
const hangMs = 30_000;
const toldMs = 20_000;

function diskOf({ disks, homes }: World, ordinal: number, kind: 'data' | 'backup') {
  const home = homes[ordinal];
  const path = kind === 'data' ? home?.dataDir : home?.backupDir;
  if (!disks || !path) throw new Error(`member ${ordinal} has no ${kind} disk to strike`);
  return { disks, path };
}

type Blow = 'freeze' | 'fill';
const cures = { freeze: 'thaw', fill: 'empty' } as const;

/** Cured whatever happens. */
async function strikeDisk(
  { disks, path }: { readonly disks: Disks; readonly path: string },
  blow: Blow,
  meanwhile: () => Promise<unknown>,
): Promise<void> {
  disks[blow](path);
  try {
    await meanwhile();
  } finally {
    disks[cures[blow]](path);
  }
}

/** In the state of the cluster, where people look. */
function waitTold({ api, signal }: World, reason: RegExp): Promise<unknown> {
  return waitFor({ what: `a condition that says ${reason}`, timeoutMs: toldMs, signal }, async () =>
    (await api.cluster(clusterName)).conditions.some(({ message }) => reason.test(message)),
  );
}

const waitReplaced = (world: World, epoch: number) =>
  waitFor(
    { what: 'another primary', timeoutMs: hangMs, signal: world.signal },
    async () => (await look(world)).epoch > epoch,
  );

async function strikePrimary(world: World, blow: Blow, until: () => Promise<unknown>): Promise<string> {
  const { epoch } = await look(world);
  const primary = primaryOf(world.seen);
  await strikeDisk(diskOf(world, primary, 'data'), blow, async () => {
    await until();
    await waitReplaced(world, epoch);
  });
  return `member ${primary}`;
}

async function fillReplica(world: World, random: Random): Promise<string> {
  await look(world);
  const ordinal = random.pick(replicasOf(world.seen));
  const ms = random.between(3000, 8000);
  await strikeDisk(diskOf(world, ordinal, 'data'), 'fill', async () => {
    await waitTold(world, new RegExp(`member ${ordinal}: its data volume is \\d+% full`));
    await pause(world, ms);
  });
  return `member ${ordinal}, ${ms} ms`;
}

/** A backup that finds no room says so and leaves nothing; with room again the next one is complete. */
async function fillBackup(world: World, random: Random): Promise<string> {
  const { api, signal } = world;
  await look(world);
  const ordinal = random.pick(replicasOf(world.seen));
  const backUp = async () => {
    const { id } = await api.backUp(clusterName, ordinal);
    return waitFor({ what: 'the end of the backup', timeoutMs: 60_000, signal }, async () => {
      const found = await api.backup(clusterName, id);
      return found.state !== 'open' && found;
    });
  };
  let refusal = '';
  await strikeDisk(diskOf(world, ordinal, 'backup'), 'fill', async () => {
    await waitTold(world, new RegExp(`member ${ordinal}: its backup volume is \\d+% full`));
    const failed = await backUp();
    if (failed.state !== 'failed') throw new Error(`a backup without room is ${failed.state}`);
    refusal = failed.code ?? '';
  });
  const after = await backUp();
  if (after.state !== 'complete') throw new Error(`with room again the backup is ${after.state}: ${after.message}`);
  return `member ${ordinal}, ${refusal}, then complete`;
}

/**
 * The kernel found an error: nothing can be written any more, until the file system was checked and mounted anew. For
 * that everything on the agent ends, as a person would do it.
 */
async function protectPrimary(world: World): Promise<string> {
  const { epoch } = await look(world);
  const primary = primaryOf(world.seen);
  const { disks, path } = diskOf(world, primary, 'data');
  const agent = await agentOf(world, primary);
  disks.protect(path);
  try {
    await waitReplaced(world, epoch);
  } finally {
    await postFault(world, { kind: 'killAgent', agent });
    try {
      await waitFor({ what: 'an end of all that uses the disk', timeoutMs: hangMs, signal: world.signal }, () => {
        const { executor, mysqld } = findMember(world.clusterId, primary) ?? {};
        for (const each of [executor, mysqld, ...findUsersOf(path)]) if (each) killProcess(each);
        disks.repair(path);
        return true;
      });
    } finally {
      await postFault(world, { kind: 'startAgent', agent });
    }
  }
  return `member ${primary}`;
}

export const ofDisks: readonly Strike[] = [
  {
    name: "primary's data disk frozen",
    changesPrimary: 'yes',
    strike: (world) => strikePrimary(world, 'freeze', async () => {}),
  },
  {
    name: "primary's data disk full",
    changesPrimary: 'yes',
    strike: (world) => strikePrimary(world, 'fill', () => waitTold(world, /its data volume is \d+% full/)),
  },
  {
    name: "primary's data disk read-only",
    changesPrimary: 'yes',
    strike: protectPrimary,
  },
  { name: "replica's data disk full", changesPrimary: 'no', strike: fillReplica },
  { name: "replica's backup disk full", changesPrimary: 'no', strike: fillBackup },
];
