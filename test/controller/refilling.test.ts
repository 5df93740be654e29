/** When the control plane has a gap in an archive filled, by whom, and when it lets it be. */
import { beforeEach, expect, test } from 'vitest';
import type { CommandBody, Status } from '../../src/channel/protocol.ts';
import { backupPolicyDefault } from '../../src/cluster/backup-policy.ts';
import { createArchives } from '../../src/controller/archives.ts';
import type { ClusterView } from '../../src/controller/gather.ts';
import { createRefills } from '../../src/controller/refilling.ts';
import type { BackupRow, ClusterRow } from '../../src/store/rows.ts';
import { aMember, aView, gtids } from './view.ts';

type Context = Parameters<typeof createRefills>[0];
type Refill = NonNullable<NonNullable<Status['archive']>['refill']>;
type Asked = CommandBody & { readonly id?: string };
let now = 0;
let sent: { readonly taskId: string; readonly body: Asked; readonly id: string | undefined }[] = [];
let told: string[] = [];

beforeEach(() => {
  now = 1_000_000;
  sent = [];
  told = [];
});

const range = (from: number, to: number) => gtids(to).replace('1-', `${from}-`);
const span = (from: number, to: number) => ({
  serverUuid: `u${from}`,
  fromGtids: from > 1 ? gtids(from - 1) : '',
  gtidSet: range(from, to),
  ...{ firstAt: 500, lastAt: 600 },
});
const archive = (spans: readonly [number, number][], refill: Refill | null = null): Status['archive'] => ({
  spans: spans.map(([from, to]) => span(from, to)),
  ...{ bytes: 100, pendingBytes: 0, archivedAt: now, error: null, refill },
});
const logs = { bytes: 10, behindSince: null, forcedAt: null, cutAt: null };
const aBackup = (until: number) => ({
  id: `b${until}`,
  gtidSet: gtids(until),
  bytes: 5,
  startedAt: 10,
  endedAt: until,
});
const spec = { volumes: { data: {}, backup: {} } } as unknown as ClusterRow['spec'];

/** Member 1 has a backup until 2 and lacks 4 and 5; the others have all. */
function view(refill: Refill | null = null, change: Partial<Status> = {}): ClusterView {
  const own = {
    archive: archive(
      [
        [1, 3],
        [6, 10],
      ],
      refill,
    ),
    logs,
    backups: [aBackup(2)],
  };
  const all = { archive: archive([[1, 10]]), logs };
  const members = [all, { ...own, ...change }, all].map((status, ordinal) => aMember(ordinal, status));
  const withPrints = members.map((each) => ({ ...each, launch: { ...each.launch!, fingerprint: `f${each.ordinal}` } }));
  return aView(withPrints, { spec, backupPolicy: backupPolicyDefault, deletedAt: null });
}

function createWorld() {
  const context = {
    clock: { now: () => now, setTimeout: () => null, clearTimeout: () => {} },
    newId: () => `id${sent.length}`,
    newToken: () => 'token',
    log: { debug: () => {}, info: () => {}, warn: (_: unknown, message: string) => told.push(message) },
    executors: {
      send: (taskId: string, body: Asked, { id }: { id?: string }) => {
        sent.push({ taskId, body, id });
        return Promise.resolve({ outcome: 'accepted' });
      },
    },
  } as unknown as Context;
  const refills = createRefills(context, async (_, clusterId, ordinal) => {
    told.push(`share ${clusterId} ${ordinal}`);
    return { ordinal, address: '127.0.0.1', port: 1, fingerprint: 'f', token: 't' };
  });
  return async (next: ClusterView, laterMs = 6000) => {
    now += laterMs;
    await refills.look(next);
    // What is begun is not waited for by a look.
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  };
}

const ended: Refill = {
  ...{ commandId: '', donor: 2, doneBytes: 10, totalBytes: 10, segments: 0 },
  ...{ outcome: 'done', code: null, message: null },
};

test('a gap that stays is filled from a replica; the next try of the same two waits longer and longer', async () => {
  const look = createWorld();
  await look(view());
  expect(sent).toEqual([]);
  await look(view(), 21_000);
  expect(told).toEqual(['share cluster 2']);
  expect(sent).toMatchObject([{ taskId: 'task-1', body: { kind: 'refillArchive', gtidSet: range(4, 5) } }]);
  const commandId = sent[0]!.id!;

  await look(view({ ...ended, commandId, outcome: 'running' }), 600_000);
  expect(sent).toHaveLength(1);
  await look(view({ ...ended, commandId }));
  expect(told.at(-1)).toBe('share cluster 0');
  await look(view({ ...ended, commandId: sent[1]!.id!, donor: 0 }));
  await look(view(), 40_000);
  expect(sent).toHaveLength(2);
  await look(view(), 30_000);
  expect(sent).toHaveLength(3);
});

test('an executor that tells nothing of it is given up after a while', async () => {
  const look = createWorld();
  await look(view());
  await look(view(), 21_000);
  await look(view(), 30_000);
  expect(sent).toHaveLength(1);
  await look(view(), 31_000);
  expect(told.at(-1)).toBe('share cluster 0');
});

test('not while other work runs, without a primary, from a bad backup, after a cut, or of an older executor', async () => {
  const never = async (seen: () => ClusterView) => {
    const look = createWorld();
    await look(seen());
    await look(seen(), 21_000);
    expect(sent).toEqual([]);
  };
  const work = { outcome: 'running' } as Status['work'];
  await never(() => view(null, { work }));
  await never(() => view(null, { backups: [{ ...aBackup(2), isBad: true }] }));
  await never(() => view(null, { logs: { ...logs, cutAt: 900 } }));
  const { refill: _, ...old } = archive([
    [1, 3],
    [6, 10],
  ])!;
  await never(() => view(null, { archive: old }));
  await never(() => ({ ...view(), kept: [{ id: 'b2', badReason: 'damaged' } as BackupRow] }));
  await never(() => {
    const seen = view();
    return { ...seen, members: seen.members.map((each) => (each.ordinal === 0 ? { ...each, status: null } : each)) };
  });
});

test('bad backups begin no window and keep no logs', () => {
  const archives = createArchives({
    clock: { now: () => now, setTimeout: () => null, clearTimeout: () => {} },
    executors: {
      send: (taskId: string, body: CommandBody) => {
        sent.push({ taskId, body, id: undefined });
        return Promise.resolve({ outcome: 'done' });
      },
    },
    log: { debug: () => {} },
  } as unknown as Parameters<typeof createArchives>[0]);
  const backups = [{ ...aBackup(2), isBad: true }, aBackup(3), aBackup(7)];

  archives.look({ ...view(null, { backups }), kept: [{ id: 'b3', badReason: 'damaged' } as BackupRow] });

  expect(archives.window('cluster')).toMatchObject({ backupId: 'b7', from: 7 });
  expect(sent.map(({ body }) => body.kind === 'keepLogs' && body.backups)).toEqual([1, 2, 3].map(() => [gtids(7)]));
});
