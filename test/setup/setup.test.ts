import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sv-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function run(args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
  return spawnSync(process.execPath, args, { encoding: 'utf8', env });
}
const setup = (...args: string[]) => run([join(root, 'scripts', 'setup.mjs'), ...args]);

/** Fills an empty cache with the tools in `path` only. */
function fill(path: string) {
  const script = `
    import { fillCache } from '${join(root, 'scripts', 'mysql-from-debian.mjs')}';
    try { await fillCache(process.argv[1], '${join(root, 'scripts')}'); }
    catch (error) { console.error(error.message); process.exit(error.exitCode ?? 99); }`;
  return run(['--input-type=module', '-e', script, dir], { PATH: path });
}

test('help is on stdout, and a wrong argument is told', () => {
  expect(setup('--help')).toMatchObject({ status: 0, stdout: expect.stringContaining('SELVEDGE_MYSQL_HOME') });
  expect(setup('--no')).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('--help') });
});

test('a ready checkout is left alone', () => {
  expect(setup()).toMatchObject({ status: 0, stdout: '', stderr: '' });
});

test('without apt the message says what is missing and what to do instead', () => {
  const { status, stderr } = fill(dir);

  expect(status).toBe(3);
  expect(stderr).toContain('apt-get is missing');
  expect(stderr).toContain('SELVEDGE_MYSQL_HOME');
});

test('an apt that knows no mirror of Debian is told, and nothing is left but its private state', () => {
  const tools = join(dir, 'tools');
  mkdirSync(tools);
  for (const tool of ['apt-get', 'apt-cache']) symlinkSync('/bin/true', join(tools, tool));

  const { status, stderr } = fill(`${tools}:/usr/bin:/bin`);

  expect(status).toBe(3);
  expect(stderr).toContain('names no mirror');
});
