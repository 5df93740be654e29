import { expect, test } from 'vitest';
import { describeRetained, retainedOptions, retainedWindow } from '../../src/run/retained-view.ts';
import type { BackupRow, Retained } from '../../src/store/rows.ts';
import { aMember, aView } from '../controller/view.ts';

const now = 10_000_000;
const ended: Retained = {
  ...{ since: 1, requestedBy: 'anna', within: 'a:1-10', isExact: true, endedAt: 5, downAt: 6 },
  window: { from: 1, to: 2, backupId: 'b0', missing: '' },
};

function aRetained(retained: Retained, seenAt: (ordinal: number) => number | null = () => now) {
  const members = [0, 1, 2].map((ordinal) => {
    const away = { status: null, isLive: false, isConnected: false };
    const member = aMember(ordinal, {}, away);
    return { ...member, bundle: { ...member.bundle!, lastSeenAt: seenAt(ordinal) } };
  });
  return aView(members, { desired: 'retained', retained });
}

test('where its end is, and what of it is not as it should be', () => {
  const tell = (change: Partial<Retained>) => describeRetained(aRetained({ ...ended, ...change }));
  const only = (retained: Partial<Retained>) =>
    describeRetained(aRetained({ since: 1, requestedBy: 'anna', ...retained }))?.message;

  expect(only({})).toBe('writes are being ended');
  expect(only({ within: 'a:1-10' })).toContain('members are being ended');
  expect(only({ within: 'a:1-10', endedAt: 5 })).toContain('waits for the end of the tasks');
  expect(tell({})).toEqual({ isDown: true, isWhole: true, message: expect.stringContaining('until they are purged') });
  expect(tell({ isExact: false })).toMatchObject({ isWhole: false });
  const lacking = tell({ window: { from: null, to: null, backupId: null, missing: 'a:9-10' } });
  expect(lacking).toMatchObject({ isWhole: false, message: expect.stringContaining('a:9-10') });
  expect(describeRetained(aView())).toBeNull();
});

test('backups are those of the rows; who was not on offer for long is away, but not right after a start', () => {
  const aBackup = (id: string, ordinal: number, change: Partial<BackupRow> = {}) =>
    ({
      id,
      ordinal,
      state: 'complete',
      gtidSet: 'a:1-5',
      bytes: 7,
      endedAt: 3,
      badReason: null,
      ...change,
    }) as BackupRow;
  const kept = [aBackup('b0', 0), aBackup('b1', 1, { badReason: 'torn' }), aBackup('b2', 2, { state: 'removing' })];
  const view = (seenAt: number | null) => ({ ...aRetained(ended, (ordinal) => (ordinal === 0 ? seenAt : now)), kept });
  const options = (seenAt: number | null, startedAt = 0) => retainedOptions(view(seenAt), { now, startedAt });

  expect(options(now - 60_000)).toMatchObject({
    within: 'a:1-10',
    backups: [
      { id: 'b0', isReachable: true, isBad: false },
      { id: 'b1', isReachable: true, isBad: true },
    ],
  });
  expect(options(now - 700_000).backups[0]).toMatchObject({ isReachable: false });
  expect(options(null).backups[0]).toMatchObject({ isReachable: false });
  expect(options(null, now - 1000).backups[0]).toMatchObject({ isReachable: true });
});

test('its recovery window is what was stored at its end', () => {
  expect(retainedWindow(aRetained(ended))).toMatchObject({ from: 1, to: 2, backupId: 'b0', gap: '', members: [] });
  expect(retainedWindow(aView())).toBeNull();
  expect(retainedWindow(null)).toBeNull();
});
