import { expect, test } from 'vitest';
import { lostOf, planRestore, type RestoreFacts } from '../../src/cluster/restore-plan.ts';

const old = '00000000-0000-4000-8000-00000000000a';
const fresh = '00000000-0000-4000-8000-00000000000b';
const aBackup = (id: string, gtidSet: string, endedAt: number, ordinal = 1) => ({
  ...{ id, gtidSet, endedAt, ordinal, bytes: 1e6, isBad: false, isReachable: true },
});
const aSpan = (ordinal: number, serverUuid: string, fromGtids: string, gtidSet: string, lastAt: number) => ({
  ...{ ordinal, serverUuid, fromGtids, gtidSet, lastAt },
});

const facts: RestoreFacts = {
  backups: [aBackup('early', `${old}:1-10`, 1000), aBackup('late', `${old}:1-50`, 5000, 2)],
  histories: [`${old}:1-60`],
  spans: [aSpan(0, old, '', `${old}:1-60`, 6000)],
  ...{ primary: 0, members: 3, preferences: {}, now: 100_000 },
};

test('the newest backup before the moment, the logs after it, and at most what is lost', () => {
  const plan = planRestore(facts, { until: { kind: 'at', atMs: 2000 }, backupId: undefined });
  expect(plan).toMatchObject({
    ...{ kind: 'planned', ordinal: 1, within: `${old}:1-60`, isLostExact: false, lost: `${old}:11-60` },
    backup: { id: 'early' },
    spans: [{ ordinal: 0 }],
  });
});

test('a set is planned exactly, and refused with what is missing', () => {
  const to = (gtidSet: string, more: Partial<RestoreFacts> = {}) =>
    planRestore({ ...facts, ...more }, { until: { kind: 'gtid', gtidSet }, backupId: undefined });
  expect(to(`${old}:1-55`)).toMatchObject({ kind: 'planned', lost: `${old}:56-60`, isLostExact: true });
  expect(to(`${old}:1-61`)).toMatchObject({ code: 'TARGET_NOT_REACHED', missing: `${old}:61` });
  const spans = [aSpan(0, old, '', `${old}:1-20`, 2000)];
  expect(to(`${old}:1-55`, { spans })).toMatchObject({ code: 'TARGET_NOT_REACHED', missing: `${old}:51-55` });
  expect(to(`${old}:1-5`)).toMatchObject({ code: 'TARGET_BEFORE_BACKUP' });
});

test('a hole before the moment refuses, one after it does not, and the last seconds are waited for', () => {
  const spans = [aSpan(0, old, '', `${old}:1-52`, 5500)];
  const at = (atMs: number, now = 100_000) =>
    planRestore({ ...facts, spans, now }, { until: { kind: 'at', atMs }, backupId: undefined });
  expect(at(5500)).toMatchObject({ kind: 'planned', backup: { id: 'late' } });
  expect(at(5600)).toMatchObject({ code: 'TARGET_NOT_REACHED', missing: `${old}:53-60` });
  expect(at(5600, 6000)).toMatchObject({ kind: 'planned' });
});

test('who shall never be the primary is not filled, unless nobody else may', () => {
  const plan = (preferences: RestoreFacts['preferences']) =>
    planRestore({ ...facts, preferences }, { until: { kind: 'backup' }, backupId: 'early' });
  expect(plan({})).toMatchObject({ ordinal: 1 });
  expect(plan({ 1: 'never' })).toMatchObject({ ordinal: 0 });
  expect(plan({ 0: 'never', 1: 'never' })).toMatchObject({ ordinal: 1 });
});

test('a backup of a history that was left is no prefix of the present one, and is reached by its id alone', () => {
  const present = `${old}:1-20,${fresh}:1-9`;
  const left: RestoreFacts = {
    ...facts,
    backups: [aBackup('early', `${old}:1-10`, 1000), aBackup('left', `${old}:1-50`, 5000)],
    histories: [present, `${old}:1-60`],
    spans: [aSpan(0, old, '', `${old}:1-60`, 6000), aSpan(1, fresh, `${old}:1-20`, `${fresh}:1-9`, 9000)],
  };
  const plan = (backupId: string | undefined, until: Parameters<typeof planRestore>[1]['until']) =>
    planRestore(left, { until, backupId });
  expect(plan(undefined, { kind: 'at', atMs: 8000 })).toMatchObject({ backup: { id: 'early' }, within: present });
  expect(plan('left', { kind: 'at', atMs: 8000 })).toMatchObject({ backup: { id: 'left' }, within: `${old}:1-60` });
  expect(plan('left', { kind: 'gtid', gtidSet: `${old}:1-60` })).toMatchObject({ within: `${old}:1-60` });
  expect(plan('left', { kind: 'backup' })).toMatchObject({ within: `${old}:1-60`, lost: `${fresh}:1-9` });
  expect(plan(undefined, { kind: 'gtid', gtidSet: `${old}:1-60` })).toMatchObject({ code: 'TARGET_NOT_REACHED' });
});

test('what is lost is what was acknowledged and is not restored', () => {
  expect(lostOf(`${old}:1-9`, `${old}:1-4`)).toBe(`${old}:5-9`);
  expect(lostOf(`${old}:1-4`, `${old}:1-4`)).toBe('');
  expect(lostOf('rubbish', '')).toBe('');
});
