import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { expect, test } from 'vitest';

/** Which room may import which. Files directly under src/ are listed by name; every room may import the `common` ones. */
const common = ['clock.ts', 'log.ts', 'errors.ts', 'events.ts'];
const mayImport: Record<string, readonly string[]> = {
  cluster: [],
  machines: ['cluster'],
  channel: ['cluster'],
  mesos: ['cluster'],
  mysql: ['cluster'],
  store: ['cluster'],
  controller: ['cluster', 'machines', 'channel', 'mesos', 'store'],
  executor: ['cluster', 'channel', 'mesos', 'mysql'],
  api: ['cluster', 'store'],
  cli: ['cluster', 'api'],
  proxy: ['cluster', 'api'],
  run: ['cluster', 'channel', 'mesos', 'mysql', 'store', 'controller', 'executor', 'api', 'proxy'],
};
/** Real time, randomness and ids come in here and nowhere else. */
const mayBeImpure = ['clock.ts', 'main.ts', 'run/random.ts'];
const impure = /\b(Date\.now|setTimeout|setInterval|Math\.random|randomUUID|new Date\(\))/;

const root = join(import.meta.dirname, '..', 'src');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
const roomOf = (file: string) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : file);

test('imports point down the table of rooms', () => {
  const faults: string[] = [];
  for (const file of files) {
    const room = roomOf(file);
    const allowed = mayImport[room];
    if (!allowed) continue; // main.ts, config.ts and the common files wire or import nothing
    const text = readFileSync(join(root, file), 'utf8');
    for (const [, target] of text.matchAll(/from '(\.[^']+)'/g)) {
      const targetRoom = roomOf(relative(root, join(root, file, '..', target!)));
      const isCommon = common.includes(targetRoom) && room !== 'cluster';
      if (targetRoom !== room && !isCommon && !allowed.includes(targetRoom)) faults.push(`${file} imports ${target}`);
    }
  }
  expect(faults).toEqual([]);
});

test('time and randomness are arguments', () => {
  const faults: string[] = [];
  for (const file of files) {
    if (mayBeImpure.includes(file)) continue;
    const lines = readFileSync(join(root, file), 'utf8').split('\n');
    lines.forEach((line, index) => {
      const code = line.replace(/\/\/.*|^\s*\*.*/, '');
      if (impure.test(code.replace(/clock\.(setTimeout|clearTimeout)/g, '')))
        faults.push(`${file}:${index + 1}: ${line.trim()}`);
    });
  }
  expect(faults).toEqual([]);
});
