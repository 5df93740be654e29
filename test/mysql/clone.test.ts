import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import {
  cloneFrom,
  cloneLocal,
  limitClone,
  readCloneProgress,
  readCloneStatus,
  restartExitCode,
} from '../../src/mysql/clone.ts';
import { readGtids } from '../../src/mysql/gtid.ts';
import { readAccess } from '../../src/mysql/read-only.ts';
import { destroyInstances } from './instance.ts';
import { accounts, loginOwn, makeWritable, startMember } from './member.ts';

afterEach(destroyInstances);

test('a member filled from a donor has its data, its set and its accounts, and asks to be started again', async () => {
  const [donor, recipient] = await Promise.all([startMember(), startMember()]);
  await makeWritable(donor, 0);
  await donor.session.query('CREATE DATABASE shop');
  await donor.session.query('CREATE TABLE shop.item (id INT PRIMARY KEY)');
  await donor.session.query('INSERT INTO shop.item VALUES (1), (2)');
  const { executed } = await readGtids(donor.session);
  expect(await readCloneProgress(recipient.session)).toBeNull();

  const { address: host, port } = donor.instance;
  await cloneFrom(recipient.session, { host, port, ...accounts.clone });
  expect(await recipient.instance.ended()).toBe(restartExitCode);
  await recipient.instance.start();

  const session = await loginOwn(recipient.instance);
  expect(await readCloneStatus(session)).toEqual({ state: 'Completed', error: '', gtidExecuted: executed });
  expect(await readGtids(session)).toEqual({ executed, purged: executed });
  expect(await readAccess(session)).toEqual({ isSuperReadOnly: true, isReadOnly: true, isOffline: true });
  expect(await session.query('SELECT id FROM shop.item')).toEqual([{ id: 1 }, { id: 2 }]);
  const progress = await readCloneProgress(session);
  expect(progress?.stage).toBe('RECOVERY');
  expect(progress?.doneBytes).toBeGreaterThan(0);
});

test('a clone that lasts longer than every time-out of both servers ends well', async () => {
  const [donor, recipient] = await Promise.all([startMember(), startMember()]);
  await makeWritable(donor, 0);
  await donor.session.query('CREATE TABLE selvedge.much (id INT PRIMARY KEY AUTO_INCREMENT, note LONGTEXT)');
  for (let row = 0; row < 8; row += 1)
    await donor.session.query("INSERT INTO selvedge.much (note) VALUES (REPEAT('x', 2097152))");
  const { executed } = await readGtids(donor.session);
  // As much data would take long, the time-outs are made short: the copy takes several times each of them.
  for (const { session } of [donor, recipient])
    for (const name of [
      'net_read_timeout',
      'net_write_timeout',
      'wait_timeout',
      'interactive_timeout',
      'lock_wait_timeout',
    ])
      await session.query(`SET GLOBAL ${name} = 1`);
  const worker = await recipient.instance.login({ user: 'selvedge' });
  await limitClone(worker, 12 * 1024 * 1024);

  const { address: host, port } = donor.instance;
  const began = performance.now();
  await cloneFrom(worker, { host, port, ...accounts.clone });
  expect(await recipient.instance.ended()).toBe(restartExitCode);
  const tookMs = performance.now() - began;
  await recipient.instance.start();

  console.log(`a CLONE of ${Math.round(tookMs)} ms, with time-outs of 1000 ms`);
  const session = await loginOwn(recipient.instance);
  expect(await readCloneStatus(session)).toEqual({ state: 'Completed', error: '', gtidExecuted: executed });
  expect(await session.query('SELECT COUNT(*) AS count FROM selvedge.much')).toEqual([{ count: 8 }]);
});

test('a clone with a wrong password is refused and changes no data', async () => {
  const [donor, recipient] = await Promise.all([startMember(), startMember()]);
  const { address: host, port } = donor.instance;

  const clone = cloneFrom(recipient.session, { host, port, user: accounts.clone.user, password: 'wrong' });

  await expect(clone).rejects.toMatchObject({ errno: 3862 });
  const status = await readCloneStatus(recipient.session);
  expect(status).toMatchObject({ state: 'Failed', error: expect.stringContaining('3862') });
  expect(await recipient.session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('a local clone of a read-only member is a data directory without an identity', async () => {
  const { instance, session } = await startMember();
  const copy = join(instance.dir, 'backup', 'copy');

  await cloneLocal(session, copy);

  expect(existsSync(join(copy, 'mysql.ibd'))).toBe(true);
  expect(readdirSync(copy)).not.toContain('auto.cnf');
  expect(await readCloneStatus(session)).toEqual({ state: 'Completed', error: '', gtidExecuted: '' });
  await expect(cloneLocal(session, copy)).rejects.toMatchObject({ errno: 1007 });
});
