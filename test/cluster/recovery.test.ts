import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatGtidSet, isGtidSubset, parseGtidSet, unionGtidSets } from '../../src/cluster/gtid-set.ts';
import {
  type BackupOption,
  chooseBackup,
  createGtidTest,
  createJudge,
  type LogOption,
  planLogs,
} from '../../src/cluster/recovery.ts';
import { gtidText } from './gtid-arbitraries.ts';

const a = '00000000-0000-4000-8000-00000000000a';
const b = '00000000-0000-4000-8000-00000000000b';
const backup = (change: Partial<BackupOption>): BackupOption => ({
  id: 'one',
  ordinal: 0,
  gtidSet: `${a}:1-10`,
  bytes: 1,
  endedAt: 1000,
  isBad: false,
  isReachable: true,
  ...change,
});
const within = `${a}:1-100`;
const newest = { kind: 'backup' } as const;

test('the newest good backup before the target serves, one that can be read now first', () => {
  const backups = [
    backup({}),
    backup({ id: 'two', gtidSet: `${a}:1-20`, endedAt: 2000 }),
    backup({ id: 'bad', gtidSet: `${a}:1-30`, endedAt: 3000, isBad: true }),
    backup({ id: 'errant', gtidSet: `${a}:1-30,${b}:1`, endedAt: 3500 }),
    backup({ id: 'away', gtidSet: `${a}:1-40`, endedAt: 4000, isReachable: false }),
  ];
  const choose = (wanted: Partial<Parameters<typeof chooseBackup>[1]>) =>
    chooseBackup(backups, { until: newest, within, ...wanted });

  expect(choose({})).toMatchObject({ backup: { id: 'two' } });
  expect(choose({ backupId: 'away' })).toMatchObject({ backup: { id: 'away' } });
  expect(choose({ until: { kind: 'at', atMs: 1999 } })).toMatchObject({ backup: { id: 'one' } });
  expect(choose({ until: { kind: 'gtid', gtidSet: `${a}:1-19` } })).toMatchObject({ backup: { id: 'one' } });
  expect(choose({ until: { kind: 'at', atMs: 999 } })).toMatchObject({ code: 'TARGET_BEFORE_BACKUP' });
  expect(choose({ until: { kind: 'gtid', gtidSet: `${b}:1-5` } })).toMatchObject({ code: 'TARGET_BEFORE_BACKUP' });
  expect(choose({ backupId: 'none' })).toMatchObject({ code: 'NO_BACKUP' });
  expect(choose({ backupId: 'bad' })).toMatchObject({ code: 'BACKUP_DAMAGED' });
  expect(choose({ backupId: 'errant' })).toMatchObject({ code: 'BACKUP_NOT_ACKNOWLEDGED' });
  expect(chooseBackup([], { until: newest, within })).toMatchObject({ code: 'NO_BACKUP' });
});

/** One history of transactions 1 to n; each archive holds some of it, cut into logs, and may have a tail of its own. */
interface History {
  readonly last: number;
  readonly logs: readonly LogOption[];
  readonly tails: number;
}
const history: fc.Arbitrary<History> = fc
  .record({
    last: fc.integer({ min: 1, max: 30 }),
    archives: fc.array(
      fc.record({
        from: fc.integer({ min: 1, max: 30 }),
        lengths: fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 6 }),
        hasTail: fc.boolean(),
      }),
      { maxLength: 5 },
    ),
  })
  .map(({ last, archives }) => ({
    last,
    tails: archives.filter(({ hasTail }) => hasTail).length,
    logs: archives.flatMap((archive, ordinal) => toLogs(last, archive, ordinal)),
  }));

function toLogs(
  last: number,
  { from, lengths, hasTail }: { from: number; lengths: number[]; hasTail: boolean },
  ordinal: number,
): LogOption[] {
  const logs: LogOption[] = [];
  let at = from;
  const serverUuid = `00000000-0000-4000-9000-00000000000${ordinal}`;
  for (const length of lengths) {
    if (at > last) break;
    const end = Math.min(last, at + length - 1);
    const name = `binlog.${String(logs.length + 1).padStart(6, '0')}`;
    const previousGtids = at === 1 ? '' : `${a}:1-${at - 1}`;
    logs.push({ ordinal, serverUuid, name, bytes: length, previousGtids, gtidSet: `${a}:${at}-${end}` });
    at = end + 1;
  }
  const end = logs.at(-1);
  if (end && hasTail) logs[logs.length - 1] = { ...end, gtidSet: `${end.gtidSet},${serverUuid}:1-3` };
  return logs;
}

test('whatever archives hold, logs are applied without a gap, and all is reached that can be', () => {
  fc.assert(
    fc.property(history, fc.integer({ min: 0, max: 30 }), ({ last, logs }, held) => {
      const executed = held === 0 ? '' : `${a}:1-${Math.min(held, last)}`;
      const plan = planLogs(logs, { executed, wanted: `${a}:1-${last}` });

      let reached = Math.min(held, last);
      for (const { gtidSet } of plan.logs) {
        const [, from, to] = /:(\d+)-(\d+)/.exec(gtidSet)!;
        expect(Number(from)).toBeLessThanOrEqual(reached + 1);
        expect(Number(to)).toBeGreaterThan(reached);
        reached = Number(to);
      }
      let possible = Math.min(held, last);
      for (;;) {
        const further = logs.flatMap(({ gtidSet }) => {
          const [, from, to] = /:(\d+)-(\d+)/.exec(gtidSet)!;
          return Number(from) <= possible + 1 && Number(to) > possible ? [Number(to)] : [];
        });
        if (further.length === 0) break;
        possible = Math.max(...further);
      }
      expect(reached).toBe(possible);
      expect(plan.missing === '').toBe(possible === last);
    }),
  );
});

test('a hole in one archive is bridged by another one', () => {
  const log = (ordinal: number, name: string, from: number, to: number): LogOption => ({
    ordinal,
    serverUuid: ordinal === 0 ? a : b,
    name,
    bytes: 1,
    previousGtids: `${a}:1-${from - 1}`,
    gtidSet: `${a}:${from}-${to}`,
  });
  const logs = [log(0, 'binlog.000002', 11, 20), log(0, 'binlog.000004', 31, 40), log(1, 'binlog.000001', 15, 35)];

  const plan = planLogs(logs, { executed: `${a}:1-10`, wanted: `${a}:1-38` });

  expect(plan.logs.map(({ ordinal, name }) => `${ordinal} ${name}`)).toEqual([
    '0 binlog.000002',
    '1 binlog.000001',
    '0 binlog.000004',
  ]);
  expect(plan.missing).toBe('');
  const without = planLogs(logs.slice(0, 2), { executed: `${a}:1-10`, wanted: `${a}:1-38` });
  expect(without.missing).toBe(`${a}:21-38`);
});

test('a single transaction is found where the whole set says so', () => {
  fc.assert(
    fc.property(gtidText, (text) => {
      const set = parseGtidSet(text);
      const isIn = createGtidTest(set);
      for (const key of [...set.lines.keys(), `${a}:other`, b]) {
        for (let number = 1; number < 60; number += 1) {
          const single = parseGtidSet(`${key}:${number}`);
          expect(isIn(`${key}:${number}`)).toBe(isGtidSubset(single, set));
        }
      }
    }),
    { numRuns: 30 },
  );
});

test('a time cuts before the first later transaction, and what nobody acknowledged is left out', () => {
  const judge = createJudge({ until: { kind: 'at', atMs: 1000 }, within: `${a}:1-5` });
  const at = (number: number, micros: number) => judge({ gtid: `${a}:${number}`, originalCommittedAtMicros: micros });

  expect(at(1, 999_999)).toBe('in');
  expect(at(2, 1_000_999)).toBe('in');
  expect(at(6, 500_000)).toBe('out');
  expect(at(3, 1_001_000)).toBe('stop');
});

test('a set takes exactly its own transactions', () => {
  const judge = createJudge({ until: { kind: 'gtid', gtidSet: `${a}:1-3:tag:7` }, within: `${a}:1-5:tag:1-9` });
  const verdicts = [`${a}:3`, `${a}:4`, `${a}:tag:7`, `${a}:tag:8`, `${b}:1`].map((gtid) =>
    judge({ gtid, originalCommittedAtMicros: 0 }),
  );

  expect(verdicts).toEqual(['in', 'out', 'in', 'out', 'out']);
  expect(formatGtidSet(unionGtidSets(parseGtidSet(`${a}:1`), parseGtidSet(`${a}:2`)))).toBe(`${a}:1-2`);
});
