import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { MemberContext } from '../../src/executor/member-context.ts';
import { pruneTails, tailsToRemove } from '../../src/executor/tail-retention.ts';

const day = 24 * 3600_000;
const limits = { now: 100 * day, maxAgeMs: 30 * day, maxBytes: 1000 };
const tail = (id: string, ageDays: number, bytes = 10) => ({ id, at: limits.now - ageDays * day, bytes });

test('old ones go, oldest first', () => {
  expect(tailsToRemove([tail('a', 40), tail('b', 1), tail('c', 50), tail('d', 29)], limits)).toEqual(['c', 'a']);
});

test('the newest stays, however old and large it is', () => {
  expect(tailsToRemove([tail('a', 90, 5000)], limits)).toEqual([]);
  expect(tailsToRemove([tail('a', 90, 5000), tail('b', 80, 5000)], limits)).toEqual(['a']);
});

test('what is over the share of the volume goes', () => {
  expect(tailsToRemove([tail('a', 3, 600), tail('b', 2, 300), tail('c', 1, 200)], limits)).toEqual(['a']);
  expect(tailsToRemove([], limits)).toEqual([]);
});

let root = '';
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('on the volume: the directory goes, what is not a tail stays', async () => {
  root = mkdtempSync(join(tmpdir(), 'selvedge-tails-'));
  const now = 100 * day;
  const common = {
    ...{ version: 1, installation: 'i', cluster: 'c', clusterName: 'orders', ordinal: 0, incarnation: 'x' },
    ...{ serverUuid: 'u', epoch: 1, gtidSet: 'a:1', transactions: 1, binaryLog: 'binlog.000001', position: 4 },
    ...{ bytes: 10, isTextWhole: true, files: [{ name: 'tail.binlog', bytes: 10, sha256: '' }] },
  };
  const write = (id: string, at: number) => {
    mkdirSync(join(root, 'tails', id), { recursive: true });
    writeFileSync(join(root, 'tails', id, 'manifest.json'), JSON.stringify({ ...common, id, at }));
  };
  write('old', now - 40 * day);
  write('older', now - 41 * day);
  write('newest', now - 39 * day);
  mkdirSync(join(root, 'tails', 'notes of a person'));
  mkdirSync(join(root, 'tails', 'interrupted.removed'));
  let changes = 0;
  const context = {
    clock: { now: () => now },
    log: { warn() {} },
    volumes: { data: { path: root, sizeMb: 100, isOwnDevice: false }, backup: null },
    tails: [],
    changed: () => {
      changes += 1;
    },
  } as unknown as MemberContext;

  await pruneTails(context);

  expect(readdirSync(join(root, 'tails')).sort()).toEqual(['newest', 'notes of a person']);
  expect(context.tails).toMatchObject([{ id: 'newest' }]);
  expect(changes).toBe(1);
});
