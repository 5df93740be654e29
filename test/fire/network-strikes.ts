/** Cuts between members while executors, control plane and clients reach everybody: no reason to change the primary. */
import { clusterName } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';
import { type Network, type Place, pairsOf } from '../network/network.ts';
import type { Random } from '../simulation/random.ts';
import type { Strike } from './strike.ts';
import { look, pause, primaryOf, replicasOf, type World } from './world.ts';

/** Longer than a replica takes to notice that its source is silent (4 s). */
const shortestMs = 5_000;
const longestMs = 9_000;
/** What was on its way when the packets stopped may still be acknowledged for so long. */
const lastWordsMs = 500;
const blockedTimeoutMs = 15_000;
const rebuildTimeoutMs = 240_000;

function getNetwork({ network }: World): Network {
  if (!network) throw new Error('there is no network to cut');
  return network;
}

const placeOf = ({ places }: World, ordinal: number): Place => {
  const place = places[ordinal];
  if (!place) throw new Error(`member ${ordinal} has no place`);
  return place;
};

/** Cuts, does `meanwhile`, and mends whatever happens. Throws when no packet was dropped: then nothing was cut. */
async function cut(world: World, pairs: readonly (readonly [number, number])[], meanwhile: () => Promise<string>) {
  const network = getNetwork(world);
  network.cut(pairs.map(([one, other]) => [placeOf(world, one), placeOf(world, other)] as const));
  try {
    const told = await meanwhile();
    const dropped = network.readDropped();
    if (dropped === 0) throw new Error('nothing went where the network was cut');
    return `${told}, ${dropped} packets dropped`;
  } finally {
    network.mend();
  }
}

/** The other replica acknowledges: writes go on. */
async function writesGoOn(world: World, random: Random): Promise<string> {
  const ms = random.between(shortestMs, longestMs);
  await pause(world, ms);
  await Promise.all(world.writers.map((writer) => writer.acknowledgedAfter(now(), shortestMs)));
  return `${ms} ms, writes went on`;
}

/** Nobody acknowledges: the state says so, and nobody is told OK. */
async function writesBlock(world: World, random: Random): Promise<string> {
  const { api, signal, writers } = world;
  await pause(world, lastWordsMs);
  const count = () => writers.map(({ acknowledgedAt }) => acknowledgedAt.filter((at) => at !== null).length);
  const before = count();
  await waitFor({ what: 'blocked writes to be told', timeoutMs: blockedTimeoutMs, signal }, async () =>
    (await api.cluster(clusterName)).conditions.some(({ type }) => type === 'WritesBlocked'),
  );
  const ms = random.between(0, longestMs - shortestMs);
  await pause(world, ms);
  const after = count();
  const lies = after.reduce((sum, rows, index) => sum + rows - (before[index] ?? 0), 0);
  if (lies > 0) throw new Error(`${lies} rows were acknowledged that nobody else can have`);
  return 'writes blocked';
}

/** The donor is cut off from whoever is filled by it, and that must come to a good end all the same. */
async function cutClone(world: World, random: Random): Promise<string> {
  const { api, signal } = world;
  await look(world);
  const [replica, donor] = random.chance(0.5) ? replicasOf(world.seen) : replicasOf(world.seen).reverse();
  const network = getNetwork(world);
  const ms = random.between(shortestMs, longestMs);
  const { id } = await api.rebuild(clusterName, replica!);
  const find = async () => (await api.rebuilds(clusterName)).find((each) => each.id === id);
  let told = '';
  try {
    await waitFor({ what: 'the way to be chosen', timeoutMs: rebuildTimeoutMs, everyMs: 10, signal }, async () => {
      const found = await find();
      return found && (found.state !== 'open' || found.way !== null);
    });
    // An empty mysqld is made first, in a second or two; the copying itself takes less than one.
    await pause(world, random.between(500, 3000));
    network.cutFromStrangers(placeOf(world, donor!));
    await pause(world, ms);
    told = `${ms} ms, ${network.readDropped()} packets dropped`;
  } finally {
    network.mend();
  }
  const { state, way, code } = await waitFor(
    { what: 'the end of the rebuild', timeoutMs: rebuildTimeoutMs, signal },
    async () => {
      const found = await find();
      return found && found.state !== 'open' && found;
    },
  );
  if (state !== 'done') throw new Error(`the rebuild of member ${replica} ${state}: ${code}`);
  return `member ${replica} from ${way} of ${donor}, ${told}`;
}

export const ofNetwork: readonly Strike[] = [
  {
    name: 'network: a replica cut from the primary',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const primary = primaryOf(await look(world));
      const replica = random.pick(replicasOf(world.seen));
      const told = await cut(world, [[primary, replica]], () => writesGoOn(world, random));
      return `member ${replica}, ${told}`;
    },
  },
  {
    name: 'network: a replica cut from all members',
    changesPrimary: 'no',
    strike: async (world, random) => {
      await look(world);
      const replica = random.pick(replicasOf(world.seen));
      const pairs = [0, 1, 2].filter((each) => each !== replica).map((each) => [replica, each] as const);
      const told = await cut(world, pairs, () => writesGoOn(world, random));
      return `member ${replica}, ${told}`;
    },
  },
  {
    name: 'network: the primary cut from all replicas',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const primary = primaryOf(await look(world));
      const pairs = replicasOf(world.seen).map((replica) => [primary, replica] as const);
      return cut(world, pairs, () => writesBlock(world, random));
    },
  },
  { name: 'network: a CLONE cut from its donor', changesPrimary: 'no', strike: cutClone },
  {
    name: 'network: a tenth of the packets lost',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const network = getNetwork(world);
      const ms = random.between(shortestMs, longestMs);
      network.lose(world.places, 10);
      try {
        await pause(world, ms);
        return `${ms} ms, ${network.readDropped()} packets dropped between ${pairsOf(world.places).length} pairs`;
      } finally {
        network.mend();
      }
    },
  },
];
