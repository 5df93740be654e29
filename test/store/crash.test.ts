import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { getCluster, listClusters } from '../../src/store/clusters.ts';
import { listEvents } from '../../src/store/events.ts';
import { listMembers } from '../../src/store/members.ts';
import { cleanUp, testDirectory, testStore } from './helper.ts';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  cleanUp();
});

/** Makes clusters as fast as it can and says the id of each once its row is stored. */
const writer = `
  import { aCluster, testStore } from ${JSON.stringify(new URL('./helper.ts', import.meta.url).href)};
  const store = await testStore(process.argv[1]);
  for (let index = 0; ; index++) {
    const { id } = await aCluster(store, 'c' + process.argv[2] + '-' + index);
    process.stdout.write(id + '\\n');
    await new Promise((resolve) => setImmediate(resolve));
  }`;

test('whatever was said to be stored is there, whole, after a SIGKILL at any moment', async () => {
  const path = join(testDirectory(), 'store.db');
  const told: string[] = [];

  for (const round of [1, 2, 3]) {
    // Ids of the helper are counted: a store that is opened again would see them twice.
    const offset = `const { newId } = await import(${JSON.stringify(new URL('./helper.ts', import.meta.url).href)});
      for (let index = 0; index < ${round * 10_000}; index++) newId();`;
    const script = writer.replace('const store', `${offset}\nconst store`);
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path, String(round)]);
    children.push(child);
    let text = '';
    let complaint = '';
    child.stderr.setEncoding('utf8').on('data', (part) => {
      complaint += part;
    });
    child.stdout.setEncoding('utf8').on('data', (part) => {
      text += part;
      if (text.split('\n').length > 20 * round) child.kill('SIGKILL');
    });
    await once(child, 'close');
    expect(complaint).toBe('');
    told.push(...text.split('\n').slice(0, -1));
  }

  const store = await testStore(path);
  expect(store.db.prepare('PRAGMA integrity_check').all()).toEqual([{ integrity_check: 'ok' }]);
  expect(store.db.prepare('PRAGMA foreign_key_check').all()).toEqual([]);
  expect(told.length).toBeGreaterThan(60);
  for (const id of told) expect((await getCluster(store, id)).id).toBe(id);
  const clusters = await listClusters(store);
  for (const { id } of clusters) expect(await listMembers(store, id)).toHaveLength(3);
  expect(await listEvents(store, { limit: 1000, after: 0 })).toHaveLength(Math.min(clusters.length, 1000));
});
