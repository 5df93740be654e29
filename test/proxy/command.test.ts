import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import {
  aClient,
  aDirectory,
  aMember,
  atEnd,
  closeAll,
  ensureHaproxy,
  FakeApi,
  haproxyProgram,
  listen,
} from './world.ts';

const main = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const proxy = (...args: string[]) => spawnSync(process.execPath, [main, 'proxy', ...args], { encoding: 'utf8' });
beforeAll(ensureHaproxy, 120_000);
afterEach(closeAll);

test('help is on stdout', () => {
  expect(proxy('--help')).toMatchObject({ status: 0, stderr: '', stdout: expect.stringContaining('--listen IP') });
});

test('every wrong option is told at once', () => {
  const { status, stderr } = proxy('--listen', 'here', '--api', 'nowhere', '--data-dir', `/tmp/${'x'.repeat(80)}`);

  expect(status).toBe(2);
  expect(stderr).toMatch(/--api: .*\n--listen: .*\n--data-dir: /);
});

test('without a HAProxy, or with something else or an old one, it says what to do', () => {
  const old = join(aDirectory(), 'haproxy');
  writeFileSync(old, '#!/bin/sh\necho HAProxy version 2.2.9-2 2021/01/01\n', { mode: 0o755 });

  for (const [path, what] of [
    ['/nowhere/haproxy', 'not there'],
    ['/bin/true', 'no HAProxy'],
    [old, 'too old'],
  ] as const) {
    const { status, stderr } = proxy('--haproxy', path);
    expect(status).toBe(2);
    expect(stderr).toContain(what);
    expect(stderr).toContain('--with haproxy');
  }
});

test('HAProxy ends with a proxy that is killed, its workers and connections too', async () => {
  const member = await aMember(0);
  const api = new FakeApi([member]);
  await api.start();
  api.add('orders', 20_001);
  api.tell('orders', { epoch: 1, primary: member });
  const args = ['--api', api.url, '--listen', listen, '--data-dir', aDirectory(), '--haproxy', haproxyProgram];
  const child = spawn(process.execPath, [main, 'proxy', ...args, '--json', '--log-level', 'error'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  atEnd(() => child.kill('SIGKILL'));
  const [line] = await once(child.stdout, 'data');
  const { haproxy } = JSON.parse(String(line)) as { haproxy: number };
  const patiently = { timeout: 10_000, interval: 20 };
  await vi.waitFor(async () => expect(await aClient(20_001).greeting).toBe('0'), patiently);
  const client = aClient(20_001);
  expect(await client.greeting).toBe('0');

  child.kill('SIGKILL');

  await client.closed;
  await vi.waitFor(() => expect(() => process.kill(haproxy, 0)).toThrow(), patiently);
  await vi.waitFor(async () => expect(await aClient(20_001).greeting).toBeNull(), patiently);
});
