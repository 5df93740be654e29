/** The whole way: a team's client behind its service port, real mysqld, a real HAProxy, a primary that dies. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createApiClient, type EndpointsAnswer } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { findRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess } from '../demo/processes.ts';
import { now } from '../demo/wait.ts';
import { aDirectory, closeAll, ensureHaproxy, haproxyProgram, listen } from './world.ts';

const main = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const patiently = { timeout: 60_000, interval: 100 };
let plane: ControlPlane;
let proxy: ChildProcess | undefined;

beforeAll(async () => {
  ensureHaproxy();
  plane = await createControlPlane({ agents: 4 });
}, 120_000);

afterAll(async () => {
  if (proxy && proxy.exitCode === null) {
    const exited = once(proxy, 'exit');
    proxy.kill('SIGTERM');
    await exited;
  }
  await closeAll();
  await plane?.destroy((dataDir) => {
    for (const directory of findRunDirectories(dataDir)) rmSync(directory, { recursive: true, force: true });
  });
});

async function startProxyProcess(): Promise<{ readonly haproxy: number }> {
  const args = ['--api', plane.apiUrl, '--listen', listen, '--data-dir', aDirectory(), '--haproxy', haproxyProgram];
  proxy = spawn(process.execPath, [main, 'proxy', ...args, '--json', '--log-level', 'error'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(proxy.stdout!, 'data');
  return JSON.parse(String(line));
}

/** Every message of the watch stream with the time of its arrival. */
function watch(name: string) {
  const seen: (EndpointsAnswer & { readonly at: number })[] = [];
  const abort = new AbortController();
  void (async () => {
    const response = await fetch(createApiClient(plane.apiUrl).watchUrl(name), { signal: abort.signal });
    for await (const part of response.body!.pipeThrough(new TextDecoderStream()))
      for (const [, data] of part.matchAll(/^data: (.*)$/gm)) seen.push({ ...JSON.parse(data!), at: now() });
  })().catch(() => {});
  return { seen, stop: () => abort.abort() };
}

/** Writes one row after the other over one connection; opens another only when that one broke. */
function startWriter(uri: string, caPem: string) {
  const state = {
    rows: 0,
    connects: 0,
    faults: [] as { text: string; at: number }[],
    lastAt: 0,
    /** Of the first row after the first fault. */
    backAt: null as number | null,
    isStopped: false,
  };
  const work = (async () => {
    while (!state.isStopped) {
      let connection: mysql.Connection | undefined;
      try {
        connection = await mysql.createConnection({ uri, ssl: { ca: caPem, verifyIdentity: false } });
        connection.on('error', () => {});
        state.connects++;
        while (!state.isStopped) {
          await connection.query('INSERT INTO app.t (n) VALUES (?)', [state.rows]);
          state.rows++;
          state.lastAt = now();
          if (state.faults.length > 0) state.backAt ??= state.lastAt;
        }
        await connection.end();
      } catch (error) {
        state.faults.push({ text: (error as Error).message, at: now() });
        connection?.destroy();
      }
    }
  })();
  return {
    state,
    async stop() {
      state.isStopped = true;
      await work;
    },
  };
}

test('a client behind its service port sees one break at a failover and then writes, over TLS', async () => {
  await plane.start();
  const api = createApiClient(plane.apiUrl);
  const { id, servicePort, credentials } = await api.create({
    name: 'orders',
    resources: { cpus: 0.5, memMb: 512 },
    volumes: { data: { type: 'mount', sizeMb: 1024 }, backup: null },
  });
  expect(credentials.uri).toBe(`mysql://${credentials.user}:${credentials.password}@127.0.0.1:${servicePort}/`);
  const { haproxy } = await startProxyProcess();
  await vi.waitFor(async () => expect((await api.cluster('orders')).state).toBe('ready'), patiently);
  const caPem = credentials.caCertPem;
  const uri = credentials.uri.replace('127.0.0.1', listen);
  const session = await mysql.createConnection({ uri, ssl: { ca: caPem, verifyIdentity: false } });
  const [[cipher]] = (await session.query("SHOW STATUS LIKE 'Ssl_cipher'")) as unknown as [[{ Value: string }]];
  expect(cipher.Value).not.toBe('');
  await session.query('CREATE DATABASE app');
  await session.query('CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT, n INT)');
  await session.end();
  const stream = watch('orders');
  const writer = startWriter(uri, caPem);
  await vi.waitFor(() => expect(writer.state.rows).toBeGreaterThan(20), patiently);

  const { primary } = await api.endpoints('orders');
  const killedAt = now();
  killProcess(findMember(id, primary!.ordinal)!.mysqld!);
  await vi.waitFor(() => expect(writer.state.backAt).not.toBeNull(), patiently);
  const rowsThen = writer.state.rows;
  await vi.waitFor(() => expect(writer.state.rows).toBeGreaterThan(rowsThen + 20), patiently);
  const backAfterMs = writer.state.lastAt - killedAt;
  await writer.stop();

  // A client may meet the dying server once more: who writes again is not broken again.
  expect(writer.state.faults[0]?.text).toMatch(/connection|ECONNRESET|EPIPE/i);
  expect(writer.state.faults.filter(({ at }) => at > writer.state.backAt!)).toEqual([]);
  expect((await api.endpoints('orders')).primary?.ordinal).not.toBe(primary!.ordinal);
  await vi.waitFor(async () => expect((await api.failovers('orders'))[0]?.outcome).toBe('done'), patiently);
  const steps = (await api.failovers('orders'))[0]!.steps;
  const delayOf = (step: string, isTold: (view: EndpointsAnswer) => boolean) =>
    stream.seen.find(isTold)!.at - steps.find(({ name }) => name === step)!.at;
  const committedMs = delayOf('committed', ({ epoch }) => epoch === 2);
  const writableMs = delayOf('writable', (view) => view.epoch === 2 && view.primary !== null);
  // The commit point lies between the two steps, so this is what it took at most.
  const atMostMs = delayOf('caught up', ({ epoch }) => epoch === 2);
  stream.stop();
  console.info(
    `told ${committedMs.toFixed(1)} ms after the commit point, ${writableMs.toFixed(1)} ms after writable, at most ${atMostMs.toFixed(1)} ms`,
  );
  console.info(`twenty rows after ${backAfterMs.toFixed(0)} ms; faults: ${writer.state.faults.length}`);

  proxy!.kill('SIGTERM');
  expect((await once(proxy!, 'exit'))[0]).toBe(0);
  expect(() => process.kill(haproxy, 0)).toThrow();
}, 120_000);
