import { afterEach, expect, test } from 'vitest';
import { createPrimarySets, storeEveryMs } from '../../src/controller/primary-sets.ts';
import { lead } from '../../src/store/leadership.ts';
import type { Store } from '../../src/store/store.ts';
import { aCluster, cleanUp, testStore } from '../store/helper.ts';
import { gtids } from './view.ts';

afterEach(cleanUp);

const said = (gtidExecuted: string, epoch = 1) => ({ epoch, gtidExecuted, isWritable: true });
const beats = (until: number) => `${gtids(5)}:selvedge:1-${until}`;
const changes = (store: Store) => store.db.prepare('SELECT total_changes() AS n').get()?.['n'];

async function aWorld() {
  const store = await testStore();
  const { id } = await aCluster(store);
  const leader = await lead(store, 'a');
  return { store, id, leader, sets: createPrimarySets({ store, leader }) };
}

test('a control plane that was started anew knows what its predecessor had seen', async () => {
  const { store, id, sets } = await aWorld();
  sets.remember(id, said(gtids(7)));
  await sets.store(0);

  const next = createPrimarySets({ store, leader: await lead(store, 'b') });
  await next.load();

  expect(next.lastKnown(id, 1)).toBe(gtids(7));
  expect(next.lastKnown(id, 2)).toBe('');
});

test('heartbeats alone are never written, and changes at most every few seconds', async () => {
  const { store, id, sets } = await aWorld();
  sets.remember(id, said(beats(1)));
  await sets.store(0);
  const written = changes(store);

  for (let second = 1; second <= 60; second++) {
    sets.remember(id, said(beats(second)));
    await sets.store(second * 1000);
  }
  expect(changes(store)).toBe(written);
  expect(sets.lastKnown(id, 1)).toBe(beats(60));

  for (let second = 61; second <= 80; second++) {
    sets.remember(id, said(gtids(second)));
    await sets.store(second * 1000);
  }
  expect(changes(store)).toBe(Number(written) + 20_000 / storeEveryMs);
});

test('within an epoch a set never shrinks; a status of an earlier epoch, or of who is read-only, says nothing', async () => {
  const { id, sets } = await aWorld();
  sets.remember(id, said(gtids(9), 2));

  sets.remember(id, said(gtids(4), 2));
  sets.remember(id, said(gtids(30), 1));
  sets.remember(id, { ...said(gtids(40), 2), isWritable: false });
  sets.remember(id, said('no set at all', 2));

  expect(sets.lastKnown(id, 2)).toBe(gtids(9));
  expect(sets.lastKnown(id, 1)).toBe('');
});

test('an older leader writes nothing, and the next epoch takes the row', async () => {
  const { store, id, sets } = await aWorld();
  const newer = createPrimarySets({ store, leader: await lead(store, 'b') });
  sets.remember(id, said(gtids(3)));
  newer.remember(id, said(gtids(5), 2));

  await expect(sets.store(0)).rejects.toMatchObject({ code: 'STALE_LEADER' });
  await newer.store(0);

  expect(store.db.prepare('SELECT epoch, gtid_set FROM primary_set').all()).toEqual([{ epoch: 2, gtid_set: gtids(5) }]);
});

test('a thousand clusters that all write cost one transaction', async () => {
  const { store, leader, id } = await aWorld();
  const ids = [id];
  for (let n = 1; n < 1000; n++) ids.push((await aCluster(store, `orders-${n}`, 1)).id);
  const sets = createPrimarySets({ store, leader });
  const write = async (until: number) => {
    for (const each of ids) sets.remember(each, said(gtids(until)));
    const from = performance.now();
    await sets.store(until * storeEveryMs);
    return performance.now() - from;
  };

  const [first, second] = [await write(1), await write(2)];
  console.log(`first ${first.toFixed(0)} ms, then ${second.toFixed(0)} ms`);

  expect(store.db.prepare('SELECT COUNT(*) AS n FROM primary_set').get()).toMatchObject({ n: 1000 });
});
