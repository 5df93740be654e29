import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { aDirectory, closeAll } from './world.ts';

const main = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const proxy = (...args: string[]) => spawnSync(process.execPath, [main, 'proxy', ...args], { encoding: 'utf8' });
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
