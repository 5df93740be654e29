import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAuthority } from '../../src/channel/certificates.ts';
import { realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { destroyInstances, testAuthority } from './instance.ts';
import { accounts, type Member, startMember } from './member.ts';

let member: Member;
let mute: Server;
beforeAll(async () => {
  member = await startMember();
  mute = createServer().listen(0, '127.0.0.1');
  await once(mute, 'listening');
});
afterAll(async () => {
  mute.close();
  await destroyInstances();
});

test('an open port that never speaks counts as failed', async () => {
  const bound = mute.address();
  const port = typeof bound === 'object' && bound ? bound.port : 0;
  const { certPem: caPem } = await testAuthority();

  const session = connect(
    { host: '127.0.0.1', port, caPem },
    { user: 'x' },
    { clock: realClock, connectTimeoutMs: 100 },
  );

  await expect(session).rejects.toMatchObject({ code: 'CONNECT_TIMEOUT' });
});

test('a closed port and a missing socket are errors at once', async () => {
  const { certPem: caPem } = await testAuthority();
  const options = { clock: realClock };

  await expect(connect({ host: '127.0.0.1', port: 1, caPem }, { user: 'x' }, options)).rejects.toMatchObject({
    code: 'ECONNREFUSED',
  });
  await expect(connect({ socketPath: '/nowhere' }, { user: 'x' }, options)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a server of another authority is refused', async () => {
  const foreign = await createAuthority({ commonName: 'other', serial: '09', now: realClock.now() });
  const { address: host, port } = member.instance;

  const session = connect({ host, port, caPem: foreign.certPem }, accounts.team, { clock: realClock });

  await expect(session).rejects.toMatchObject({ name: 'SqlError' });
});

test('TCP sessions have TLS', async () => {
  const session = await member.instance.loginTcp(accounts.team);

  const [row] = await session.query<{ Value: string }>("SHOW SESSION STATUS LIKE 'Ssl_version'");

  expect(row?.Value).toMatch(/^TLSv1\.[23]$/);
  await session.close();
});

test('an error tells what the server says, and neither statement nor parameters', async () => {
  const error = await member.session
    .query('ALTER USER nobody IDENTIFIED BY ?', ['secret'])
    .catch((fault: unknown) => fault);

  expect(error).toMatchObject({ name: 'SqlError', code: 'ER_OPTION_PREVENTS_STATEMENT', errno: 1290 });
  expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('secret');
});

test('a query that takes too long closes its session, and the others behind it fail', async () => {
  const session = await member.instance.login({ user: 'selvedge' });

  const slow = session.query('SELECT SLEEP(30)', [], { timeoutMs: 50 });
  const behind = session.query('SELECT 1');

  await expect(slow).rejects.toMatchObject({ code: 'QUERY_TIMEOUT' });
  await expect(behind).rejects.toMatchObject({ name: 'SqlError' });
  expect(session.isClosed).toBe(true);
  expect(await session.closed).toMatchObject({ code: 'QUERY_TIMEOUT' });
});

test('a session tells that its server is gone', async () => {
  const other = await startMember();
  const slow = other.session.query('SELECT SLEEP(30)');
  const failed = expect(slow).rejects.toMatchObject({ name: 'SqlError' });

  await other.instance.kill();

  expect(await other.session.closed).toMatchObject({ name: 'SqlError' });
  await failed;
});

test('closing is no error', async () => {
  const session = await member.instance.login({ user: 'selvedge' });

  await session.close();
  await session.close();

  expect(await session.closed).toBeNull();
});
