/** What the archives of a cluster cover, seen together, and what each executor is told to keep logs for. */
import { beforeEach, expect, test } from 'vitest';
import type { CommandBody, Status } from '../../src/channel/protocol.ts';
import { findArchiveTroubles } from '../../src/cluster/archive-troubles.ts';
import { backupPolicyDefault } from '../../src/cluster/backup-policy.ts';
import { createArchives } from '../../src/controller/archives.ts';
import type { ClusterView } from '../../src/controller/gather.ts';
import type { ClusterRow } from '../../src/store/rows.ts';
import { aMember, aView, gtids } from './view.ts';

let now = 0;
let sent: { readonly taskId: string; readonly body: CommandBody }[] = [];
let archives = createArchives(contextOf());

beforeEach(() => {
  now = 1_000_000;
  sent = [];
  archives = createArchives(contextOf());
});

function contextOf() {
  const clock = { now: () => now, setTimeout: () => null, clearTimeout: () => {} };
  const send = (taskId: string, body: CommandBody) => {
    sent.push({ taskId, body });
    return Promise.resolve({ outcome: 'done' });
  };
  return { clock, executors: { send }, log: { debug: () => {} } } as unknown as Parameters<typeof createArchives>[0];
}

type Archive = NonNullable<Status['archive']>;
const archive = (from: number, to: number): Archive => ({
  spans: [
    {
      serverUuid: 'a',
      fromGtids: from > 1 ? gtids(from - 1) : '',
      gtidSet: gtids(to).replace('1-', `${from}-`),
      firstAt: 500,
      lastAt: now - 1000,
    },
  ],
  ...{ bytes: 100, pendingBytes: 0, archivedAt: now, error: null },
});
const logs = { bytes: 10, behindSince: null, forcedAt: null, cutAt: null };
const aBackup = (until: number) => ({
  id: `b${until}`,
  gtidSet: gtids(until),
  bytes: 5,
  startedAt: 10,
  endedAt: until,
});

function view(changes: readonly Partial<Status>[], away: readonly number[] = []): ClusterView {
  const members = changes.map((change, ordinal) =>
    aMember(ordinal, { logs, ...change }, away.includes(ordinal) ? { isConnected: false, status: null } : {}),
  );
  const spec = { volumes: { data: {}, backup: {} } } as unknown as ClusterRow['spec'];
  return aView(members, { spec, backupPolicy: backupPolicyDefault, deletedAt: null });
}

const look = (seen: ClusterView, laterMs = 3000) => {
  now += laterMs;
  archives.look(seen);
  return archives.window('cluster');
};

test('the window goes from the oldest backup without a gap to the newest archived commit', () => {
  const window = look(view([{ archive: archive(1, 10), backups: [aBackup(4)] }, { backups: [aBackup(7)] }, {}]));

  expect(window).toMatchObject({ from: 4, backupId: 'b4', rpoMs: 0, missing: '', gap: '' });
  expect(window?.to).toBeGreaterThan(4);
});

test('behind a gap a newer backup begins the window, and the gap is told after a while', () => {
  const seen = view([{ archive: archive(6, 10), backups: [aBackup(3), aBackup(5)] }, {}, {}]);
  const window = look(seen);

  expect(window).toMatchObject({ from: 5, backupId: 'b5', gap: gtids(5).replace('1-5', '4-5') });
  const troublesOf = () => {
    const { members: _, ...told } = archives.window('cluster')!;
    return findArchiveTroubles({ ...told, members: [], now });
  };
  expect(troublesOf()).toEqual([]);
  look(seen, 31_000);
  expect(troublesOf()).toMatchObject([{ type: 'ArchiveGap', reason: 'Missing' }]);
});

test('a gap that another member fills is none', () => {
  const window = look(view([{ archive: archive(6, 10), backups: [aBackup(3)] }, { archive: archive(1, 6) }, {}]));

  expect(window).toMatchObject({ from: 3, gap: '' });
});

test('the RPO grows while what was acknowledged is in no archive, also while the primary is away', () => {
  const seen = view([{ archive: archive(1, 9), backups: [aBackup(4)] }, {}, {}]);

  const first = look(seen)?.rpoMs ?? 0;
  const second = look(seen, 70_000)?.rpoMs ?? 0;
  const third = look(view([{}, { archive: archive(1, 9), backups: [aBackup(4)] }, {}], [0]), 5000)?.rpoMs ?? 0;

  expect(second - first).toBe(70_000);
  expect(third - second).toBe(5000);
  expect(findArchiveTroubles({ ...archives.window('cluster')!, members: [], now })).toMatchObject([
    { type: 'ArchiveBehind', reason: 'NotArchived' },
  ]);
});

test('logs are kept for what an absent member lacks, until it was away for too long', () => {
  const keptFor = () => sent.map(({ body }) => (body.kind === 'keepLogs' ? body.executedByAll : null));
  look(view([{}, {}, { gtidExecuted: gtids(6) }]));
  expect(keptFor()).toEqual([gtids(6), gtids(6), gtids(6)]);
  sent = [];

  const away = view([{}, {}, {}], [2]);
  look(away, 31_000);
  expect(keptFor()).toEqual([gtids(6), gtids(6)]);
  expect(archives.willBeRebuilt(away, 2)).toBe(false);
  sent = [];

  look(away, 73 * 3_600_000);
  expect(keptFor()).toEqual([gtids(10), gtids(10)]);
  expect(archives.willBeRebuilt(away, 2)).toBe(true);
  expect(archives.window('cluster')?.members.map(({ isWrittenOff }) => isWrittenOff)).toEqual([false, false, true]);
});

test('a member that was not heard of yet holds every log', () => {
  look(view([{}, {}, {}], [1]));

  expect(sent.map(({ body }) => body)).toMatchObject([{ executedByAll: null }, { executedByAll: null }]);
});

test('an executor that knows no keepLogs is not sent one', () => {
  const old = aView([0, 1, 2].map((ordinal) => aMember(ordinal)));
  const spec = { volumes: { data: {}, backup: {} } } as unknown as ClusterRow['spec'];

  look({ ...old, cluster: { ...old.cluster, spec, backupPolicy: backupPolicyDefault, deletedAt: null } });

  expect(sent).toEqual([]);
});

test('logs that are not archived and stand in the way of the caps are told', () => {
  const member = { ordinal: 1, error: { code: 'ARCHIVE_FAILED', message: 'no space' }, isBehind: true, cutAt: null };
  const signs = { rpoMs: 0, gap: '', gapSince: null, members: [member], now };

  expect(findArchiveTroubles(signs)).toMatchObject([{ type: 'ArchiveBehind', reason: 'WillBePurged' }]);
  const held = { ...signs, members: [{ ...member, isBehind: false }] };
  expect(findArchiveTroubles(held)).toMatchObject([{ type: 'ArchiveBehind', reason: 'HeldUp' }]);
  const cut = { ...signs, members: [{ ...member, error: null, isBehind: false, cutAt: now - 1000 }] };
  expect(findArchiveTroubles(cut)).toMatchObject([{ type: 'ArchiveGap', reason: 'WindowCut' }]);
});
