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
