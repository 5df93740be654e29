import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LaunchPlan } from '../../src/channel/protocol.ts';
import { readIfThere, writeDurable } from '../../src/executor/durable.ts';
import { openMemberState } from '../../src/executor/member-state.ts';
import { openRunDirectory } from '../../src/executor/run-directory.ts';
import {
  createMarker,
  findForeign,
  isEmptyVolume,
  measureVolume,
  openVolume,
  readMarker,
  requireSamePlace,
  writeMarker,
} from '../../src/executor/volumes.ts';

let root: string;
let sandbox: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'svv-'));
  sandbox = join(root, 'sandbox');
  mkdirSync(sandbox);
  mkdirSync(join(root, 'volume'));
  symlinkSync(join(root, 'volume'), join(sandbox, 'data'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const dataPlan = { containerPath: 'data', persistenceId: 'p1', diskType: 'root', sizeMb: 100 } as const;
const plan: LaunchPlan = {
  version: 1,
  installation: 'i',
  cluster: 'c',
  clusterName: 'orders',
  ordinal: 0,
  taskId: 't',
  incarnation: 'a',
  serverUuid: 's',
  serverId: 1,
  address: '127.0.0.1',
  ports: { mysql: 1, control: 2, health: 3 },
  memMb: 400,
  data: dataPlan,
  backup: null,
  tokenSha256: '00',
};
const filling = { incarnation: 'a', serverUuid: 's', serverId: 1, epoch: 0, fill: 'filled' } as const;

test('a volume is found through the link in the sandbox, and is empty', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);

  expect(volume.path).toBe(join(root, 'volume'));
  expect(await isEmptyVolume(volume)).toBe(true);
  expect(await readMarker(volume)).toBeNull();
});

test.each(['missing', '../volume', '', '.', 'a/b'])('a container path %j is not opened', async (containerPath) => {
  await expect(openVolume(sandbox, 'data', { ...dataPlan, containerPath })).rejects.toMatchObject({
    code: 'VOLUME_NOT_OURS',
  });
});

test('a fresh file system is empty, one with files is not', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  mkdirSync(join(volume.path, 'lost+found'));
  expect(await isEmptyVolume(volume)).toBe(true);

  writeFileSync(join(volume.path, 'somebody.txt'), 'else');
  expect(await isEmptyVolume(volume)).toBe(false);
});

test('a marker comes back as written and is ours', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  const marker = createMarker(volume, plan, filling);

  await writeMarker(volume, marker);

  expect(await readMarker(volume)).toEqual(marker);
  expect(findForeign(volume, marker, plan)).toBeNull();
});

test.each([
  ['installation', { installation: 'other' }],
  ['cluster', { cluster: 'other' }],
  ['ordinal', { ordinal: 1 }],
])('a marker of another %s is foreign', async (key, change) => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  const marker = { ...createMarker(volume, plan, filling), ...change };

  expect(findForeign(volume, marker, plan)).toMatchObject({ code: 'VOLUME_NOT_OURS', facts: { key } });
});

test('a disk of its own that is not mounted any more is refused; a plain directory never was one', async () => {
  const volume = await openVolume(sandbox, 'data', { ...dataPlan, diskType: 'mount' });
  const marker = createMarker(volume, plan, filling);

  expect(findForeign(volume, marker, plan)).toBeNull();
  expect(findForeign(volume, { ...marker, isOwnDevice: true }, plan)).toMatchObject({ code: 'VOLUME_NOT_OURS' });
});

test('another directory in the same path is another place', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  expect((await openVolume(sandbox, 'data', dataPlan)).place).toBe(volume.place);
  await requireSamePlace(volume);

  renameSync(volume.path, `${volume.path}.away`);
  mkdirSync(volume.path);

  expect((await openVolume(sandbox, 'data', dataPlan)).place).not.toBe(volume.place);
  await expect(requireSamePlace(volume)).rejects.toMatchObject({ code: 'VOLUME_NOT_OURS' });
});

test('a marker that cannot be read is nobody’s', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  writeFileSync(join(volume.path, 'selvedge.json'), '{"version":2}');

  await expect(readMarker(volume)).rejects.toMatchObject({ code: 'VOLUME_NOT_OURS' });
});

test('used space of a directory is that of its files', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  mkdirSync(join(volume.path, 'deep'));
  writeFileSync(join(volume.path, 'deep', 'file'), Buffer.alloc(3 * 1024 * 1024, 1));

  const { totalMb, usedMb } = await measureVolume(volume);

  expect(totalMb).toBe(100);
  expect(usedMb).toBeGreaterThanOrEqual(3);
  expect(usedMb).toBeLessThan(5);
});

test('the state survives and its updates are serialised', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  const state = await openMemberState(volume);

  await Promise.all([
    state.update({ epoch: 3 }),
    state.update({ leaderToken: 7 }),
    state.update({ wasWritable: true }),
  ]);

  const again = await openMemberState(volume);
  expect(again.get()).toMatchObject({ epoch: 3, leaderToken: 7, wasWritable: true, held: null });
});

test('a damaged state is not taken for a fresh one', async () => {
  const volume = await openVolume(sandbox, 'data', dataPlan);
  writeFileSync(join(volume.path, 'state.json'), '{"epo');

  await expect(openMemberState(volume)).rejects.toThrow();
});

test('a durable write leaves no temporary file and replaces what an interrupted one left', async () => {
  const path = join(root, 'file');
  writeFileSync(`${path}.new`, 'half', { mode: 0o644 });

  await writeDurable(path, 'whole');

  expect(await readIfThere(path)).toBe('whole');
  expect(readdirSync(root)).not.toContain('file.new');
});

test('the run directory is private, short, empty, and the same for the same volume', async () => {
  const first = await openRunDirectory(root, '/volume/a');
  writeFileSync(join(first, 's.lock'), '1');

  const second = await openRunDirectory(root, '/volume/a');

  expect(second).toBe(first);
  expect(readdirSync(second)).toEqual([]);
  expect(await openRunDirectory(root, '/volume/b')).not.toBe(first);
});
