import { createHash } from 'node:crypto';
import { request } from 'node:https';
import { connect as connectTls, createServer } from 'node:tls';
import { afterEach, expect, test, vi } from 'vitest';
import { createSelfSigned } from '../../src/channel/certificates.ts';
import { ChannelError, createExecutorClient, WrongCertificateError } from '../../src/channel/client.ts';
import { type Command, type CommandResult, PROTOCOL_VERSION, type Status } from '../../src/channel/protocol.ts';
import { realClock } from '../../src/clock.ts';
import { type ListeningServer, startControlServer } from '../../src/executor/control-server.ts';
import { createLogger } from '../../src/log.ts';

const address = '127.0.0.1';
const token = 'the-token';
const certificate = createSelfSigned({ commonName: 'executor', ip: address, serial: '01', now: Date.now() });
const log = createLogger('silent');
const limits = { timeoutMs: 5000 };
const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

const status: Status = {
  version: PROTOCOL_VERSION,
  taskId: 't',
  sequence: 1,
  at: 0,
  bootId: 'b',
  incarnation: 'i',
  serverUuid: 's',
  epoch: 0,
  leaderToken: 0,
  instance: 'none',
  reason: null,
  isInitialised: false,
  isWritable: false,
  gtidExecuted: '',
  gtidReceived: '',
  gtidPurged: '',
  replication: null,
  lagMs: null,
  semiSync: { isSource: false, k: 0, isReplica: false, clients: 0, waitingSessions: 0, noTx: 0 },
  heartbeatAt: null,
  volumes: { data: { totalMb: 1, usedMb: 0 }, backup: null },
  backups: [],
  work: null,
};
const command: Command = { version: PROTOCOL_VERSION, id: 'c1', epoch: 1, leaderToken: 1, sequence: 1, kind: 'freeze' };

async function startServer(submit: (command: Command) => Promise<CommandResult> = async () => ({ outcome: 'done' })) {
  const listeners = new Set<(status: Status) => void>();
  const server: ListeningServer = await startControlServer({
    address,
    port: 0,
    certPem: certificate.certPem,
    keyPem: certificate.keyPem,
    tokenSha256: createHash('sha256').update(token).digest('hex'),
    clock: realClock,
    log,
    submit,
    getStatus: () => status,
    onStatus: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  });
  open.push(() => server.close());
  const publish = (next: Status) => {
    for (const listener of listeners) listener(next);
  };
  return { port: server.port, publish, listeners };
}

function connect(port: number, changes: { fingerprint?: string; token?: string } = {}) {
  const { fingerprint } = certificate;
  const client = createExecutorClient({ address, port, fingerprint, token, clock: realClock, log, ...changes });
  open.push(() => client.close());
  return client;
}

test('a command is carried out and its answer comes back', async () => {
  const seen: Command[] = [];
  const { port } = await startServer(async (each) => {
    seen.push(each);
    return { outcome: 'done', gtidExecuted: 'a:1' };
  });

  const result = await connect(port).send(command, limits);

  expect(result).toEqual({ outcome: 'done', gtidExecuted: 'a:1' });
  expect(seen).toEqual([command]);
});

test('a server with another certificate gets no byte of the request', async () => {
  const other = createSelfSigned({ commonName: 'executor', ip: address, serial: '01', now: Date.now() });
  let received = 0;
  const server = createServer({ cert: other.certPem, key: other.keyPem }, (socket) => {
    socket.on('data', (chunk) => {
      received += chunk.length;
    });
    socket.on('error', () => {});
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  open.push(() => server.close());
  const { port } = server.address() as { port: number };

  await expect(connect(port).send(command, limits)).rejects.toBeInstanceOf(WrongCertificateError);

  expect(received).toBe(0);
});

test('a wrong token is refused with 401 and carries nothing out', async () => {
  const submit = vi.fn();
  const { port } = await startServer(submit);

  const sent = connect(port, { token: 'another' }).send(command, limits);

  await expect(sent).rejects.toMatchObject({ httpStatus: 401 });
  expect(submit).not.toHaveBeenCalled();
});

test('a command that cannot be read is answered with 400', async () => {
  const { port } = await startServer();

  const sent = connect(port).send({ ...command, kind: 'dance' } as unknown as Command, limits);

  await expect(sent).rejects.toBeInstanceOf(ChannelError);
  await expect(sent).rejects.toMatchObject({ httpStatus: 400 });
});

test('a body past the limit is refused with 413', async () => {
  const { port } = await startServer();
  const answer = new Promise<number>((resolve, reject) => {
    const call = request({
      host: address,
      port,
      method: 'POST',
      path: '/v1/commands',
      rejectUnauthorized: false,
      headers: { authorization: `Bearer ${token}`, 'transfer-encoding': 'chunked' },
    });
    call.on('response', (response) => resolve(response.statusCode ?? 0));
    call.on('error', reject);
    call.end(Buffer.alloc(300 * 1024, 'x'));
  });

  expect(await answer).toBe(413);
});

test('a call gives up at its deadline while the command goes on', async () => {
  let finish = () => {};
  const { port } = await startServer(
    () =>
      new Promise((resolve) => {
        finish = () => resolve({ outcome: 'done' });
      }),
  );

  const sent = connect(port).send(command, { timeoutMs: 100 });

  await expect(sent).rejects.toThrow('no answer within 100 ms');
  finish();
});

test('a call can be aborted', async () => {
  const { port } = await startServer(() => new Promise(() => {}));
  const abort = new AbortController();

  const sent = connect(port).send(command, { timeoutMs: 10_000, signal: abort.signal });
  abort.abort(new Error('no longer wanted'));

  await expect(sent).rejects.toThrow('no longer wanted');
});

test('a call that nobody wants any more when it begins rejects, and ends nothing else', async () => {
  const { port } = await startServer();
  const over = AbortSignal.abort(new Error('no longer wanted'));

  await expect(connect(port).send(command, { timeoutMs: 10_000, signal: over })).rejects.toThrow('no longer wanted');
  // An error of the request that is emitted later would be one that nobody listens to.
  expect(await connect(port).getStatus({ timeoutMs: 10_000 })).toBeDefined();
});

test('a watch gets a status at once, at every change and each second', async () => {
  const { port, publish, listeners } = await startServer();
  const seen: number[] = [];
  const onEnd = vi.fn();

  const stop = connect(port).watch({ onStatus: (each) => seen.push(each.sequence), onEnd });
  await vi.waitFor(() => expect(seen).toEqual([1]));
  publish({ ...status, sequence: 2 });
  await vi.waitFor(() => expect(seen).toEqual([1, 2]));
  await vi.waitFor(() => expect(seen.length).toBeGreaterThan(2), { timeout: 3000 });

  stop();
  await vi.waitFor(() => expect(listeners.size).toBe(0));
  expect(onEnd).not.toHaveBeenCalled();
});

test('the end of the executor ends a watch, once', async () => {
  const { port } = await startServer();
  const onEnd = vi.fn();
  const onStatus = vi.fn();
  connect(port).watch({ onStatus, onEnd });
  await vi.waitFor(() => expect(onStatus).toHaveBeenCalled());

  await open.splice(0, 1)[0]!();

  await vi.waitFor(() => expect(onEnd).toHaveBeenCalledOnce());
});

test('garbage on the port does not disturb others', async () => {
  const { port } = await startServer();
  const socket = connectTls({ host: address, port, rejectUnauthorized: false });
  open.push(() => socket.destroy());
  await new Promise<void>((resolve) => socket.once('secureConnect', resolve));
  socket.on('error', () => {});
  socket.write('\0\0\0\0 nonsense\r\n\r\n');

  expect(await connect(port).getStatus(limits)).toEqual(status);
});
