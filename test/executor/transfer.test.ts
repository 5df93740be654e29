/** Executors that read each other's backups and archives: a real donor over TLS, a proxy that breaks connections. */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createSelfSigned } from '../../src/channel/certificates.ts';
import type { Donor } from '../../src/channel/donor.ts';
import { createTransferClient, type TransferClient, transferPaths } from '../../src/channel/transfer.ts';
import { type Clock, realClock } from '../../src/clock.ts';
import { keyIdOf } from '../../src/cluster/backup-key.ts';
import { startControlServer } from '../../src/executor/control-server.ts';
import { downloadFile } from '../../src/executor/download.ts';
import { hashFiles, type Packing, writeManifest } from '../../src/executor/manifest.ts';
import { packFiles } from '../../src/executor/packing.ts';
import { createShares, type Shares } from '../../src/executor/shares.ts';
import { createTransferServer } from '../../src/executor/transfer-server.ts';
import type { Volume } from '../../src/executor/volumes.ts';
import { createLogger } from '../../src/log.ts';

const address = '127.0.0.1';
const token = 'transfer-token';
const commandToken = 'command-token';
const certificate = createSelfSigned({ commonName: 'donor', ip: address, serial: '01', now: Date.now() });
const log = createLogger('silent');
const { signal } = new AbortController();
const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('hex');
const big = randomBytes(3 * 1024 * 1024 + 17);
const key = randomBytes(32);
const keys = new Map([[keyIdOf(key), key]]);

let root: string;
let volume: Volume;
let shares: Shares;
let port: number;
const open: (() => unknown)[] = [];

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'svt-'));
  volume = {
    kind: 'backup',
    path: join(root, 'v'),
    diskType: 'path',
    sizeMb: 1,
    persistenceId: 'p',
    place: '1',
    isOwnDevice: false,
  };
  await makeBackup('one');
  writeFileSync(join(root, 'secret'), 'secret');
  shares = createShares(realClock);
  shares.add({ tokenSha256: sha256(token), expiresInMs: 60_000, maxBytesPerSec: null });
  const server = await startControlServer({
    address,
    port: 0,
    ...certificate,
    tokenSha256: sha256(commandToken),
    clock: realClock,
    log,
    submit: async () => ({ outcome: 'done' }),
    getStatus: () => {
      throw new Error('not asked for');
    },
    onStatus: () => () => {},
    transfer: {
      ...createTransferServer({
        clock: realClock,
        log,
        keys,
        findVolume: () => volume,
        findTailVolumes: () => [volume],
      }),
      findShare: shares.find,
    },
  });
  port = server.port;
  open.push(() => server.close());
});
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
  rmSync(root, { recursive: true, force: true });
});

async function makeBackup(id: string, packing: Packing | null = null): Promise<void> {
  const directory = join(volume.path, 'backups', id);
  mkdirSync(join(directory, 'data', 'shop'), { recursive: true });
  writeFileSync(join(directory, 'data', 'big'), big);
  writeFileSync(join(directory, 'data', 'shop', 'a@0024 b.ibd'), 'small');
  writeFileSync(join(directory, 'data', 'empty'), '');
  const plain = await hashFiles(join(directory, 'data'), { signal });
  const onChunk = async () => {};
  const packed = packing && { ...packing, directory, id };
  const files = packed ? await packFiles(packed, { files: plain, signal, onChunk }) : plain;
  const about = { id, installation: 'i', cluster: 'c', clusterName: 'orders', ordinal: 0, epoch: 1 };
  const rest = { incarnation: 'n', serverUuid: 's', mysqlVersion: '9.7.4', gtidSet: '', startedAt: 1, endedAt: 2 };
  await writeManifest(directory, { ...about, ...rest }, files, packing);
}

function createClient(change: Partial<Donor> = {}, clock: Clock = realClock): TransferClient {
  const donor = { ordinal: 0, address, port, fingerprint: certificate.fingerprint, token, ...change };
  const client = createTransferClient(donor, clock);
  open.push(() => client.close());
  return client;
}

function download(client: TransferClient, change: Partial<Parameters<typeof downloadFile>[0]> = {}) {
  const path = transferPaths.data('one', 'big');
  const target = join(root, 'target');
  const what = { path, target, bytes: big.length, sha256: sha256(big), onBytes: () => {} };
  return downloadFile({ client, clock: realClock, signal, ...what, ...change });
}

async function readAll(client: TransferClient, path: string): Promise<string> {
  const parts: Buffer[] = [];
  for await (const chunk of await client.open(path, 0, signal)) parts.push(chunk);
  return Buffer.concat(parts).toString();
}

test('files come whole, also empty ones and those with odd names', async () => {
  const client = createClient();
  let told = 0;

  await download(client, { onBytes: (count) => (told += count) });

  expect(sha256(readFileSync(join(root, 'target')))).toBe(sha256(big));
  expect(told).toBe(big.length);
  expect(await readAll(client, transferPaths.data('one', 'shop/a@0024 b.ibd'))).toBe('small');
  expect(await readAll(client, transferPaths.data('one', 'empty'))).toBe('');
  expect(JSON.parse(await readAll(client, transferPaths.manifest('one')))).toMatchObject({ id: 'one' });
  expect(JSON.parse(await readAll(client, transferPaths.files('one')))).toHaveLength(3);
});

test('a download goes on where the connection broke', async () => {
  const breaking = await startBreakingProxy(400_000);
  let told = 0;

  await download(createClient({ port: breaking.port }), { onBytes: (count) => (told += count) });

  expect(sha256(readFileSync(join(root, 'target')))).toBe(sha256(big));
  expect(told).toBe(big.length);
  expect(breaking.count()).toBeGreaterThan(5);
});

const packings: Record<string, Packing> = {
  'with zstd': { compress: 'zstd', key: null },
  'with a key': { compress: 'none', key },
  'with zstd and a key': { compress: 'zstd', key },
};

test.each(Object.entries(packings))('files that are packed %s come as they were before', async (_, packing) => {
  await makeBackup('packed', packing);
  const breaking = await startBreakingProxy(400_000);
  const client = createClient({ port: breaking.port });

  await download(client, { path: transferPaths.data('packed', 'big') });

  expect(sha256(readFileSync(join(root, 'target')))).toBe(sha256(big));
  expect(breaking.count()).toBeGreaterThan(5);
  expect(await readAll(client, transferPaths.data('packed', 'shop/a@0024 b.ibd'))).toBe('small');
  expect(await readAll(client, transferPaths.data('packed', 'empty'))).toBe('');
  await expect(readAll(client, transferPaths.data('packed', 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const list = JSON.parse(await readAll(client, transferPaths.files('packed')));
  expect(list).toHaveLength(3);
});

test('an encrypted backup comes as it is stored too, and nothing of it without its key', async () => {
  await makeBackup('sealed', { compress: 'none', key });
  await makeBackup('other', { compress: 'none', key: randomBytes(32) });
  const client = createClient();
  const directory = join(volume.path, 'backups', 'sealed');

  for (const [path, file] of [
    ['manifest.mac', 'manifest.mac'],
    ['files.json.enc', 'files.json.enc'],
    ['empty.enc', 'packed/empty.enc'],
  ] as const) {
    const stored = await readAll(client, transferPaths.stored('sealed', path));
    expect(stored).toBe(readFileSync(join(directory, file)).toString());
  }
  for (const path of ['../../secret', 'manifest.json', '../manifest.mac', '/etc/passwd', '']) {
    await expect(readAll(client, transferPaths.stored('sealed', path))).rejects.toMatchObject({ name: 'Refusal' });
  }
  expect(await readAll(client, transferPaths.manifest('other'))).toContain('aes-256-gcm');
  for (const path of [transferPaths.files('other'), transferPaths.data('other', 'big')]) {
    await expect(readAll(client, path)).rejects.toMatchObject({ code: 'BACKUP_KEY_UNKNOWN' });
  }
  const manifest = readFileSync(join(directory, 'manifest.json'), 'utf8');
  writeFileSync(join(directory, 'manifest.json'), manifest.replace('"epoch": 1', '"epoch": 2'));
  await expect(readAll(client, transferPaths.files('sealed'))).rejects.toMatchObject({ code: 'BACKUP_DAMAGED' });
});

/** Breaks each connection after so many bytes from the donor. */
async function startBreakingProxy(afterBytes: number) {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    connections += 1;
    let left = afterBytes;
    const far = connect(port, address);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => [near, far].map((each) => each.destroy()));
    }
    near.pipe(far);
    far.on('data', (chunk) => {
      near.write(chunk);
      left -= chunk.length;
      if (left < 0) near.destroy();
    });
  }).listen(0, address);
  await once(server, 'listening');
  open.push(async () => {
    for (const socket of sockets) socket.destroy();
    await once(server.close(), 'close');
  });
  return { port: (server.address() as { port: number }).port, count: () => connections };
}

test('what an ended recipient left is gone on with, and fetched anew when it is not what it should be', async () => {
  const client = createClient();
  writeFileSync(join(root, 'target'), big.subarray(0, 1_000_000));
  const counts: number[] = [];
  await download(client, { onBytes: (count) => counts.push(count) });
  expect(counts[0]).toBe(1_000_000);
  expect(sha256(readFileSync(join(root, 'target')))).toBe(sha256(big));

  writeFileSync(join(root, 'target'), Buffer.concat([Buffer.alloc(1000), big]));
  await download(client);

  expect(sha256(readFileSync(join(root, 'target')))).toBe(sha256(big));
});

test('a flipped bit at the donor is found', async () => {
  const damaged = Buffer.from(big);
  damaged[12345]! ^= 1;
  writeFileSync(join(volume.path, 'backups', 'one', 'data', 'big'), damaged);

  await expect(download(createClient())).rejects.toMatchObject({ code: 'BACKUP_DAMAGED' });
});

test('a file that is shorter at the donor, or gone, is told', async () => {
  const path = join(volume.path, 'backups', 'one', 'data', 'big');
  writeFileSync(path, big.subarray(0, 100_000));
  await expect(download(createClient())).rejects.toMatchObject({ code: 'BACKUP_DAMAGED' });
  rmSync(path);
  await expect(download(createClient(), { target: join(root, 'other') })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a wrong token, an expired one, and the token of commands open nothing; a transfer token gives no commands', async () => {
  for (const wrong of ['', 'other', commandToken]) {
    await expect(download(createClient({ token: wrong }))).rejects.toMatchObject({ code: 'TRANSFER_REFUSED' });
  }
  shares.add({ tokenSha256: sha256(token), expiresInMs: -1, maxBytesPerSec: null });
  await expect(download(createClient())).rejects.toMatchObject({ code: 'TRANSFER_REFUSED' });
  shares.add({ tokenSha256: sha256(token), expiresInMs: 60_000, maxBytesPerSec: null });
  await download(createClient());
  await expect(readAll(createClient(), '../status')).rejects.toThrow();
});

test('another certificate than the pinned one gets no token', async () => {
  const other = createSelfSigned({ commonName: 'other', ip: address, serial: '02', now: Date.now() });

  await expect(download(createClient({ fingerprint: other.fingerprint }))).rejects.toMatchObject({
    code: 'TRANSFER_REFUSED',
  });
});

test('hostile paths are refused', async () => {
  const client = createClient();
  symlinkSync(join(root, 'secret'), join(volume.path, 'backups', 'one', 'data', 'link'));
  symlinkSync(root, join(volume.path, 'backups', 'one', 'data', 'linked'));
  await makeBackup('half.partial').catch(() => {});
  const paths = [
    transferPaths.data('one', '../manifest.json'),
    transferPaths.data('one', '../../../../secret'),
    transferPaths.data('one', '/etc/passwd'),
    transferPaths.data('one', 'shop/../big'),
    transferPaths.data('one', './big'),
    transferPaths.data('one', 'big\0'),
    transferPaths.data('one', ''),
    transferPaths.data('one', 'shop'),
    transferPaths.data('one', 'link'),
    transferPaths.data('one', 'linked/secret'),
    transferPaths.data('../backups/one', 'big'),
    transferPaths.data('..', 'big'),
    transferPaths.data('half.partial', 'big'),
    transferPaths.data('two', 'big'),
    'backups/one/data',
    'backups/%E0%A4%A/data?path=big',
    'backups/one/data/big',
    `archive/${randomUUID()}/..%2f..%2fsecret`,
    `archive/${randomUUID()}/binlog.000001`,
    'archive/../secret',
    'nothing',
    '',
  ];
  for (const path of paths) await expect(readAll(client, path), path).rejects.toThrow();
});

test('the rate is kept, for all streams of a token together', async () => {
  const rate = 1024 * 1024;
  shares.add({ tokenSha256: sha256(token), expiresInMs: 60_000, maxBytesPerSec: rate });
  const client = createClient();
  let count = 0;
  const targets = [join(root, 't1'), join(root, 't2')];
  const end = new AbortController();
  const both = targets.map((target) =>
    download(client, { target, signal: end.signal, onBytes: (more) => (count += more) }).catch(() => {}),
  );
  const began = performance.now();

  await expect.poll(() => count, { interval: 5 }).toBeGreaterThan(rate);

  // Later is the fault of the machine; sooner would be ours. Burst and the piece under way come on top.
  const allowed = (rate * (performance.now() - began + 200)) / 1000 + 2 * 256 * 1024;
  expect(count).toBeLessThan(allowed);
  end.abort();
  await Promise.all(both);
});

test('a donor that is gone for good is given up in the end, one that is busy is asked again', async () => {
  let now = 0;
  const clock: Clock = {
    now: () => now,
    setTimeout: (fn, ms) => {
      // Time passes as fast as somebody waits, but for the deadlines of connections.
      if (ms > 5000 || ms === 3000) return undefined;
      now += ms;
      return setTimeout(fn, 0);
    },
    clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
  };
  const nobody = createServer().listen(0, address);
  await once(nobody, 'listening');
  const closed = (nobody.address() as { port: number }).port;
  await once(nobody.close(), 'close');

  await expect(download(createClient({ port: closed }, clock), { clock })).rejects.toMatchObject({
    code: 'TRANSFER_BROKEN',
  });
  expect(now).toBeGreaterThan(120_000);
});

test('a file of a tail that its manifest names, from an offset; nothing beside it', async () => {
  const id = '6f9619ff-8b86-4011-b42d-00c04fc964ff';
  const directory = join(volume.path, 'tails', id);
  mkdirSync(directory, { recursive: true });
  const content = Buffer.from('a binary log');
  writeFileSync(join(directory, 'tail.binlog'), content);
  writeFileSync(join(directory, 'secret'), 'not in the manifest');
  symlinkSync('/etc/hostname', join(directory, 'link.sql'));
  const about = { version: 1, id, installation: 'i', cluster: 'c', clusterName: 'n', ordinal: 0, incarnation: id };
  const log = { serverUuid: id, epoch: 1, gtidSet: '', transactions: 1, binaryLog: 'binlog.1', position: 4, bytes: 12 };
  const files = ['tail.binlog', 'link.sql'].map((name) => ({ name, bytes: 12, sha256: '' }));
  const manifest = { ...about, ...log, at: 1, isTextWhole: true, files };
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  const client = createClient();

  expect(await readAll(client, transferPaths.tail(id, 'tail.binlog'))).toBe(content.toString());
  const rest = await client.open(transferPaths.tail(id, 'tail.binlog'), 2, signal);
  for await (const chunk of rest) expect(chunk).toEqual(content.subarray(2));
  for (const name of ['secret', 'manifest.json', 'link.sql', '../secret', '.'])
    await expect(readAll(client, transferPaths.tail(id, name))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(readAll(client, transferPaths.tail('..', 'tail.binlog'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
