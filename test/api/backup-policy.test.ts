import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { keyIdOf } from '../../src/cluster/backup-key.ts';
import { closeBackup, noteBackup } from '../../src/store/backups.ts';
import { lead } from '../../src/store/leadership.ts';
import { closeVerification } from '../../src/store/verifications.ts';
import { aRequest, aServingCluster, aWorld, closeWorlds, fakeBackup, token, type World } from './helper.ts';

afterEach(() => closeWorlds());

const url = '/v1/clusters/orders/backup-policy';

async function aBackup(world: World, change: { readonly verifiedAt?: number; readonly badReason?: string } = {}) {
  const leader = await lead(world.store, 'test');
  const asked = await world.app.inject({ method: 'POST', url: '/v1/clusters/orders/backups', payload: {} });
  const { id } = asked.json();
  await closeBackup(world.store, leader, id, { state: 'complete', gtidSet: 'a:1-9', bytes: 9 });
  const { verifiedAt = null, badReason = null } = change;
  await noteBackup(world.store, leader, id, { verifiedAt, badReason });
  return { id, leader };
}

test('the default policy is shown with its next run, and changed field by field', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  expect((await world.app.inject(url)).json()).toMatchObject({
    schedule: '0 2 * * *',
    timeZone: 'UTC',
    members: 'all',
    keepCount: 2,
    isDefault: true,
    nextAt: expect.any(Number),
  });
  const changed = await world.app.inject({
    method: 'PUT',
    url,
    payload: { schedule: '30 1 * * 0', timeZone: 'Europe/Berlin', compress: 'zstd', archive: { maxShare: 0.5 } },
  });

  expect(changed.json()).toMatchObject({
    schedule: '30 1 * * 0',
    timeZone: 'Europe/Berlin',
    keepCount: 2,
    compress: 'zstd',
    archive: { keepHours: 168, maxShare: 0.5 },
    isDefault: false,
  });
  const events = (await world.app.inject('/v1/events?cluster=orders')).json().events;
  expect(events.at(-1)).toMatchObject({ kind: 'cluster.changed', data: { by: 'local' } });
  expect((await world.app.inject({ method: 'PUT', url, payload: { schedule: null } })).json()).toMatchObject({
    schedule: null,
    nextAt: null,
  });
});

test.each([
  { schedule: '99 * * * *' },
  { schedule: '0 0 31 2 *' },
  { timeZone: 'Nowhere/Here' },
  { keepCount: 0 },
  { maxBytesPerSec: 1 },
  { members: 'none' },
  { encrypt: 'rot13' },
  { other: 1 },
  {},
])('%j is refused and changes nothing', async (payload) => {
  const world = await aWorld();
  await aServingCluster(world);

  const answer = await world.app.inject({ method: 'PUT', url, payload });

  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({ code: 'BAD_REQUEST' });
  expect((await world.app.inject(url)).json()).toMatchObject({ isDefault: true });
});

test('a viewer sees the policy and changes nothing, nor takes data away', async () => {
  const world = await aWorld({ kind: 'tokens', tokens: [] });

  expect((await world.app.inject({ method: 'PUT', url, payload: { keepCount: 3 } })).statusCode).toBe(401);
  expect((await world.app.inject('/v1/clusters/orders/backups/x/download')).statusCode).toBe(401);
});

test('the key of the backups is given to an operator alone, and that is told; nothing else shows it', async () => {
  const world = await aWorld({ kind: 'tokens', tokens: [token('ann', 'team'), token('oz', 'operator')] });
  const as = (name: string) => ({ authorization: `Bearer secret-of-${name}` });
  const headers = as('ann');
  await world.app.inject({ method: 'POST', url: '/v1/clusters', headers, payload: aRequest() });
  const take = (name: string) =>
    world.app.inject({ method: 'POST', url: '/v1/clusters/orders/backup-key', headers: as(name) });
  expect((await take('oz')).json()).toMatchObject({ code: 'NOT_FOUND' });

  const changed = await world.app.inject({ method: 'PUT', url, headers, payload: { encrypt: 'aes-256-gcm' } });
  const refused = await take('ann');
  const taken = await take('oz');

  expect(changed.json()).toMatchObject({ encrypt: 'aes-256-gcm', compress: 'none' });
  expect(refused.json()).toMatchObject({ code: 'FORBIDDEN' });
  const { key, keyId } = taken.json();
  expect(key).toMatch(/^[0-9a-f]{64}$/);
  expect(keyId).toBe(keyIdOf(Buffer.from(key, 'hex')));
  const events = await world.app.inject({ url: '/v1/events', headers });
  const told = events.json().events.filter((event: { kind: string }) => event.kind === 'backup.key');
  expect(told).toMatchObject([{ cluster: 'orders', data: { keyId, by: 'oz' } }]);
  const shown = await Promise.all(
    ['/v1/clusters', '/v1/clusters/orders', url].map((path) => world.app.inject({ url: path, headers })),
  );
  const texts = [changed, refused, events, ...shown].map(({ body }) => body);
  expect([...texts, ...world.log].filter((text) => text.includes(key))).toEqual([]);
});

test('one verification at a time is opened, of backups that are complete', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { id, leader } = await aBackup(world);
  const verify = () => world.app.inject({ method: 'POST', url: `/v1/clusters/orders/backups/${id}/verify` });

  const first = await verify();
  expect(first.statusCode).toBe(202);
  expect(first.json()).toMatchObject({ backup: id, state: 'open', progress: null });
  expect((await verify()).json()).toMatchObject({ code: 'OPERATION_OPEN' });
  expect((await world.app.inject({ method: 'DELETE', url: `/v1/clusters/orders/backups/${id}` })).json()).toMatchObject(
    {
      code: 'OPERATION_OPEN',
    },
  );
  await closeVerification(world.store, leader, first.json().id, { state: 'done' });

  expect((await verify()).statusCode).toBe(202);
  expect((await world.app.inject(first.headers['location'] as string)).json()).toMatchObject({ state: 'done' });
  const missing = await world.app.inject({ method: 'POST', url: '/v1/clusters/orders/backups/none/verify' });
  expect(missing.json()).toMatchObject({ code: 'NOT_FOUND' });
});

test('the last good backup is removed only by force', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { id } = await aBackup(world, { verifiedAt: 5 });
  const path = `/v1/clusters/orders/backups/${id}`;

  expect((await world.app.inject({ method: 'DELETE', url: path })).json()).toMatchObject({
    code: 'BACKUP_LAST_VERIFIED',
  });
  const forced = await world.app.inject({ method: 'DELETE', url: `${path}?force=true` });

  expect(forced.statusCode).toBe(202);
  expect(forced.json()).toMatchObject({ state: 'removing', removalReason: 'asked for by local' });
  expect((await world.app.inject({ method: 'DELETE', url: path })).json()).toMatchObject({ state: 'removing' });
});

test('a download is a tar that tar unpacks and sha256sum finds right; a bad backup has none', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { id, leader } = await aBackup(world);
  const path = `/v1/clusters/orders/backups/${id}/download`;
  const dir = mkdtempSync(join(tmpdir(), 'svtar-'));
  try {
    const answer = await world.app.inject(path);
    expect(answer.headers['content-type']).toBe('application/x-tar');
    expect(Number(answer.headers['content-length'])).toBe(answer.rawPayload.length);
    mkdirSync(join(dir, 'out'));
    writeFileSync(join(dir, 'b.tar'), answer.rawPayload);

    execFileSync('tar', ['-xf', join(dir, 'b.tar'), '-C', join(dir, 'out')]);

    expect(readdirSync(join(dir, 'out', 'data', 'performance_schema'))).toEqual([]);
    const checked = execFileSync('sha256sum', ['-c', 'SHA256SUMS'], { cwd: join(dir, 'out'), encoding: 'utf8' });
    expect(checked.match(/: OK$/gm)).toHaveLength(fakeBackup.files.length);
    expect(JSON.parse(readFileSync(join(dir, 'out', 'manifest.json'), 'utf8'))).toEqual({ version: 1, id: 'fake' });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  await noteBackup(world.store, leader, id, { verifiedAt: null, badReason: 'a flipped bit' });
  expect((await world.app.inject(path)).json()).toMatchObject({ code: 'BACKUP_DAMAGED' });
});
