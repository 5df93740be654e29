/** Real MySQL: the control plane is killed in the pause of a switchover and stays away; writes go on without it. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findMember } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';

let plane: ControlPlane;
let api: Api;
let cluster: Awaited<ReturnType<Api['create']>>;
const sessions: Session[] = [];

beforeAll(async () => {
  plane = await createControlPlane({ agents: 3 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  cluster = await api.create(clusterBody);
  await waitReady(api);
}, 120_000);
afterAll(async () => {
  await Promise.all(sessions.map((session) => session.close()));
  await plane?.destroy(removeRunDirectories);
}, 60_000);

const keep = (session: Session): Session => {
  sessions.push(session);
  return session;
};

/** As the executor itself logs in. */
async function openOwn(ordinal: number): Promise<Session> {
  const flag = '--defaults-file=';
  const file = findMember(cluster.id, ordinal)!.mysqld!.command.find((part) => part.startsWith(flag))!;
  const socketPath = join(file.slice(flag.length), '..', 's');
  return keep(await connect({ socketPath }, { user: 'selvedge' }, { clock: realClock }));
}

test('the old primary ends the pause by itself; the control plane that comes back takes the switchover back', async () => {
  const { primary, epoch } = await waitReady(api);
  const { host, port } = (await api.endpoints(clusterName)).primary!;
  const { credentials } = cluster;
  const team = keep(await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock }));
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY)');
  await team.query('INSERT INTO shop.orders VALUES (1)');
  const candidate = primary === 0 ? 1 : 0;
  const [own, blocker] = await Promise.all([openOwn(primary!), openOwn(candidate)]);
  // Its applier waits for this lock: it does not catch up.
  await blocker.query('FLUSH TABLES WITH READ LOCK');
  await team.query('INSERT INTO shop.orders VALUES (2)');
  const { id } = await api.changePrimary(clusterName, {
    ...{ kind: 'switchover', candidate, maxPauseMs: 3000, reason: 'to lose the control plane in it' },
  });
  const isReadOnly = async () => (await own.query<{ is: number }>('SELECT @@super_read_only AS `is`'))[0]?.is === 1;
  await waitFor({ what: 'the pause', timeoutMs: 20_000, everyMs: 2 }, isReadOnly);
  await plane.kill();

  await waitFor({ what: 'an end of the pause', timeoutMs: 30_000, everyMs: 20 }, async () => !(await isReadOnly()));

  await team.query('INSERT INTO shop.orders VALUES (3)');
  await blocker.query('UNLOCK TABLES');
  await plane.start();
  const row = await waitFor({ what: 'its end', timeoutMs: 60_000 }, async () =>
    (await api.failovers(clusterName)).find((one) => one.id === id && one.outcome !== 'open'),
  );
  expect(['refused', 'aborted']).toContain(row.outcome);
  expect(await waitReady(api)).toMatchObject({ primary, epoch });
  await expect.poll(() => blocker.query('SELECT id FROM shop.orders'), { timeout: 15_000 }).toHaveLength(3);
}, 180_000);
