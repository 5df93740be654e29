import { afterAll, expect, test } from 'vitest';
import { destroyInstances, startInstance } from './instance.ts';

afterAll(destroyInstances);

test('an instance starts read-only, offline and without replication', async () => {
  const instance = await startInstance();

  const [row] = await instance.root.query(
    `SELECT @@super_read_only AS superReadOnly, @@read_only AS readOnly, @@offline_mode AS offline, @@gtid_mode AS gtid,
       @@persisted_globals_load AS persisted, @@relay_log_recovery AS recovery`,
  );

  expect(row).toEqual({ superReadOnly: 1, readOnly: 1, offline: 1, gtid: 'ON', persisted: 0, recovery: 0 });
});

test('a large instance with acknowledgements on disk starts', async () => {
  const instance = await startInstance({ memMb: 2500, myCnf: { ackFlush: 'disk' } });

  const [row] = await instance.root.query(
    'SELECT @@sync_relay_log AS sync, @@innodb_buffer_pool_size DIV 1048576 AS poolMb',
  );
  expect(row).toEqual({ sync: 1, poolMb: 1536 });
});

test('an instance starts without a word of warning that is not known', async () => {
  const instance = await startInstance();

  const lines = instance.readErrorLog().split('\n');
  const codes = lines.filter((line) => /\[(Warning|ERROR)\]/.test(line)).map((line) => /\[(MY-\d+)\]/.exec(line)?.[1]);
  // New server_uuid (tests do not choose one), self-signed authority, pid file below /tmp.
  expect([...new Set(codes)].filter((code) => !['MY-010075', 'MY-010068', 'MY-011810'].includes(code ?? ''))).toEqual(
    [],
  );
});
