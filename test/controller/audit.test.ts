import { afterEach, expect, test } from 'vitest';
import { type Audits, createAudits } from '../../src/controller/audit.ts';
import type { ClusterView } from '../../src/controller/gather.ts';
import { createLogger } from '../../src/log.ts';
import { listEvents } from '../../src/store/events.ts';
import { lead } from '../../src/store/leadership.ts';
import type { Store } from '../../src/store/store.ts';
import { aCluster, cleanUp, testClock, testStore } from '../store/helper.ts';
import { aMember, aStatus, aView } from './view.ts';

afterEach(cleanUp);

const log = createLogger('silent');
const replicas = [aMember(1), aMember(2)];
const uuidOf = (ordinal: number) => aStatus(ordinal).serverUuid;

async function aWorld() {
  const store = await testStore();
  const { id } = await aCluster(store);
  const audits = createAudits({ store, leader: await lead(store, 'a'), clock: testClock(), log });
  return { store, id, audits };
}

interface Seen {
  readonly at: number;
  readonly noTx?: number;
  readonly acknowledgers?: readonly string[];
  readonly epoch?: number;
  readonly k?: number;
  readonly isSource?: boolean;
  readonly taskId?: string;
}

/** The cluster as one look finds it: the primary says `noTx` and `acknowledgers`. */
function seen(
  id: string,
  { at, noTx = 0, acknowledgers, epoch = 1, k = 1, isSource = true, taskId }: Seen,
): ClusterView {
  const semiSync = { ...aStatus(0).semiSync, isSource, noTx, acknowledgers: [...(acknowledgers ?? [uuidOf(1)])] };
  const primary = aMember(0, { at, epoch, semiSync });
  const launch = { ...primary.launch!, ...(taskId ? { taskId } : {}) };
  const voters = [0, 1, 2].map((ordinal) => ({ ordinal, incarnation: `incarnation-${ordinal}` }));
  const rule = { epoch, version: 1, primary: 0, voters, k };
  return aView([{ ...primary, launch }, ...replicas], { id, epoch, rule });
}

const look = (audits: Audits, id: string, ...looks: readonly Seen[]) => {
  for (const one of looks) audits.look(seen(id, one));
  return audits.finding(id);
};

const isStored = (store: Store) =>
  expect
    .poll(() => store.db.prepare('SELECT COUNT(*) AS n FROM durability_finding').get(), { timeout: 5000 })
    .toMatchObject({ n: 1 });

test('commits that went through without acknowledgement are told, with the time span', async () => {
  const { audits, id, store } = await aWorld();

  expect(look(audits, id, { at: 1000, noTx: 4 }, { at: 2000, noTx: 4 })).toBeNull();
  expect(look(audits, id, { at: 3000, noTx: 6 })).toBe(
    '2 transactions were committed without acknowledgement between 1970-01-01T00:00:02.000Z and 1970-01-01T00:00:03.000Z',
  );
  await isStored(store);
  expect(await listEvents(store)).toMatchObject([{ kind: 'cluster.created' }, { kind: 'cluster.durability' }]);
});

test('nothing is promised with k = 0, and a server that was started again counts from the beginning', async () => {
  const { audits, id } = await aWorld();

  expect(look(audits, id, { at: 1000, k: 0 }, { at: 2000, k: 0, noTx: 9 })).toBeNull();
  expect(look(audits, id, { at: 3000, noTx: 9 }, { at: 4000, noTx: 12, taskId: 'another' })).toBeNull();
  expect(look(audits, id, { at: 5000, noTx: 12, isSource: false }, { at: 6000, noTx: 13, isSource: false })).toBeNull();
});

test('a stranger who acknowledges is told when he stays for longer than a status is old', async () => {
  const { audits, id } = await aWorld();
  const acknowledgers = [uuidOf(1), uuidOf(7)];

  expect(look(audits, id, { at: 1000, acknowledgers }, { at: 2000, acknowledgers }, { at: 3000 })).toBeNull();
  expect(look(audits, id, { at: 4000, acknowledgers }, { at: 6900, acknowledgers })).toBeNull();
  expect(look(audits, id, { at: 7000, acknowledgers })).toMatch(/^00000007-.* acknowledged and are no voters, between/);
});

test('strangers of one epoch do not make a finding of the next one', async () => {
  const { audits, id } = await aWorld();
  const acknowledgers = [uuidOf(7)];

  look(audits, id, { at: 1000, acknowledgers }, { at: 2000, acknowledgers });

  expect(look(audits, id, { at: 9000, acknowledgers, epoch: 2 }, { at: 9500, acknowledgers, epoch: 2 })).toBeNull();
});

test('a finding outlives the control plane, is told once, and ends with its epoch', async () => {
  const { audits, id, store } = await aWorld();
  const found = look(audits, id, { at: 1000 }, { at: 2000, noTx: 1 });
  await isStored(store);

  const next = createAudits({ store, leader: await lead(store, 'b'), clock: testClock(), log });
  await next.load();

  expect(next.finding(id)).toBe(found);
  expect(look(next, id, { at: 3000, noTx: 1 }, { at: 4000, noTx: 5 })).toBe(found);
  expect((await listEvents(store)).filter(({ kind }) => kind === 'cluster.durability')).toHaveLength(1);
  expect(look(next, id, { at: 5000, epoch: 2, noTx: 5 })).toBeNull();
});

test('a finding that the store did not take is kept, and stored at a later look', async () => {
  const store = await testStore();
  const { id } = await aCluster(store);
  const leader = { token: 0 };
  const audits = createAudits({ store, leader, clock: testClock(), log });
  await lead(store, 'another');

  const found = look(audits, id, { at: 1000 }, { at: 2000, noTx: 1 });
  Object.assign(leader, await lead(store, 'us'));

  expect(found).not.toBeNull();
  await expect
    .poll(() => {
      look(audits, id, { at: 3000, noTx: 1 });
      return store.db.prepare('SELECT COUNT(*) AS n FROM durability_finding').get();
    })
    .toMatchObject({ n: 1 });
});
