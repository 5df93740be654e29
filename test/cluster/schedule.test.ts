import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { backupPolicyDefault } from '../../src/cluster/backup-policy.ts';
import {
  chooseForRun,
  findDueRun,
  findNextRun,
  findScheduleFault,
  type RunBackup,
  type RunMember,
} from '../../src/cluster/schedule.ts';

const at = (text: string) => Date.parse(text);
const clusterId = 'c-1';
const timing = (schedule: string, timeZone = 'UTC', jitterSeconds = 0) => ({ schedule, timeZone, jitterSeconds });

describe('what is due', () => {
  const nightly = timing('30 2 * * *');

  test('a run is due from its moment on, until it was made', () => {
    const since = at('2026-05-01T00:00:00Z');
    const run = at('2026-05-01T02:30:00Z');

    expect(findDueRun(nightly, { clusterId, since, now: run - 1 })).toBeNull();
    expect(findDueRun(nightly, { clusterId, since, now: run })).toBe(run);
    expect(findDueRun(nightly, { clusterId, since: run, now: run + 60_000 })).toBeNull();
  });

  test('of many missed runs only the last is due', () => {
    const [since, now] = [at('2026-05-01T00:00:00Z'), at('2026-05-09T10:00:00Z')];

    expect(findDueRun(nightly, { clusterId, since, now })).toBe(at('2026-05-09T02:30:00Z'));
  });

  test('each night has one run, also when the clocks change', () => {
    const berlin = timing('30 2 * * *', 'Europe/Berlin');
    const runsOf = (from: string, days: number) => {
      const runs: string[] = [];
      let since = at(from);
      for (let now = since; now < at(from) + days * 86_400_000; now += 600_000) {
        const due = findDueRun(berlin, { clusterId, since, now });
        if (due === null) continue;
        runs.push(new Date(due).toISOString());
        since = due;
      }
      return runs;
    };

    expect(runsOf('2026-03-28T12:00:00Z', 2)).toEqual(['2026-03-29T01:00:00.000Z', '2026-03-30T00:30:00.000Z']);
    expect(runsOf('2026-10-24T12:00:00Z', 2)).toEqual(['2026-10-25T00:30:00.000Z', '2026-10-26T01:30:00.000Z']);
  });

  test('clusters are spread over the jitter, each always alike, and none runs early', () => {
    const spread = timing('0 2 * * *', 'UTC', 3600);
    const base = at('2026-05-01T02:00:00Z');
    const offsets = Array.from({ length: 200 }, (_, index) => {
      const due = findDueRun(spread, { clusterId: `c-${index}`, since: 0, now: base + 3600_000 })!;
      return (due - base) / 1000;
    });

    expect(Math.min(...offsets)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...offsets)).toBeLessThan(3600);
    expect(new Set(offsets).size).toBeGreaterThan(150);
  });

  test('the next run becomes due at its moment and not before', () => {
    const schedules = fc.constantFrom('0 2 * * *', '*/7 * * * *', '15 3 * * 1-5', '0 0 1 * *', '30 2 * * 0');
    const zones = fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe');
    const moments = fc.integer({ min: at('2026-01-01T00:00:00Z'), max: at('2028-01-01T00:00:00Z') });
    fc.assert(
      fc.property(schedules, zones, moments, fc.nat(4000), (schedule, timeZone, now, jitterSeconds) => {
        const policy = { schedule, timeZone, jitterSeconds };
        const next = findNextRun(policy, clusterId, now)!;

        expect(next).toBeGreaterThan(now);
        expect(findDueRun(policy, { clusterId, since: now, now: next - 1 })).toBeNull();
        expect(findDueRun(policy, { clusterId, since: now, now: next })).toBe(next);
      }),
      { numRuns: 60 },
    );
  });
});

test.each([
  ['61 * * * *', 'UTC'],
  ['* * * *', 'UTC'],
  ['* * * * * *', 'UTC'],
  ['0 0 31 2 *', 'UTC'],
  ['0 2 * * *', 'Nowhere/Here'],
  ['2026-01-01T00:00:00', 'UTC'],
  ['@reboot', 'UTC'],
])('%s in %s is refused with a sentence', (schedule, timeZone) => {
  expect(findScheduleFault({ schedule, timeZone }, at('2026-05-01T00:00:00Z'))).toMatch(/.+/);
});

test('the default and no schedule at all are good', () => {
  expect(findScheduleFault(backupPolicyDefault, 0)).toBeNull();
  expect(findScheduleFault({ schedule: null, timeZone: 'UTC' }, 0)).toBeNull();
});

describe('who is backed up in a run', () => {
  const now = 1_000_000_000;
  const member = (ordinal: number, rest: Partial<RunMember> = {}): RunMember => ({
    ordinal,
    isPrimary: ordinal === 0,
    isFit: true,
    lagMs: 0,
    ...rest,
  });
  const backup = (ordinal: number, state: RunBackup['state'], rest: Partial<RunBackup> = {}): RunBackup => ({
    ordinal,
    state,
    code: null,
    endedAt: now,
    ...rest,
  });
  const members = [member(0), member(1, { lagMs: 10 }), member(2)];
  const choose = (backups: readonly RunBackup[], which: 'all' | 'replica' = 'all', dueAt = now) =>
    chooseForRun({ members, backups, which, dueAt, now });

  test('one after the other, replicas first, each once', () => {
    expect(choose([])).toBe(2);
    expect(choose([backup(2, 'open', { endedAt: null })])).toBeNull();
    expect(choose([backup(2, 'other')])).toBe(1);
    expect(choose([backup(2, 'other'), backup(1, 'other')])).toBe(0);
    expect(choose([backup(2, 'other'), backup(1, 'other'), backup(0, 'other')])).toBeNull();
  });

  test('one replica is enough when the policy says so; the primary only when none can for long', () => {
    const alone = [member(0), member(1, { isFit: false })];
    const at = (dueAt: number) => chooseForRun({ members: alone, backups: [], which: 'replica', dueAt, now });

    expect(choose([], 'replica')).toBe(2);
    expect(choose([backup(2, 'other')], 'replica')).toBeNull();
    expect(at(now)).toBeNull();
    expect(at(now - 20 * 60_000)).toBe(0);
  });

  test('a failed one is tried again later, and not for ever; what would be refused alike is not', () => {
    const only = [member(0)];
    const at = (backups: readonly RunBackup[]) =>
      chooseForRun({ members: only, backups, which: 'all', dueAt: now, now });
    const failed = (minutes: number, code = 'COMMAND_FAILED') =>
      backup(0, 'failed', { endedAt: now - minutes * 60_000, code });

    expect(at([failed(1)])).toBeNull();
    expect(at([failed(20)])).toBe(0);
    expect(at([failed(60), failed(40), failed(20)])).toBeNull();
    expect(at([failed(60, 'BACKUP_NO_SPACE')])).toBeNull();
  });
});
