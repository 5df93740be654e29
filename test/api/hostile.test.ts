import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { listClusters } from '../../src/store/clusters.ts';
import { aRequest, aServingCluster, aWorld, closeWorlds, portOf, token, type World } from './helper.ts';

afterEach(async () => expect(await closeWorlds()).toBe(0));

const create = ({ app }: World, payload: string | object, headers: Record<string, string> = {}) =>
  app.inject({
    method: 'POST',
    url: '/v1/clusters',
    payload,
    headers: { 'content-type': 'application/json', ...headers },
  });

function expectProblem(answer: { statusCode: number; body: string; headers: object }, status: number): void {
  expect(answer.statusCode, answer.body).toBe(status);
  expect(answer.headers).toMatchObject({ 'content-type': expect.stringContaining('application/problem+json') });
  const problem = JSON.parse(answer.body);
  expect(Object.keys(problem).sort()).toEqual(
    ['code', 'detail', 'facts', 'faults', 'status', 'title', 'todo', 'type'].sort(),
  );
  expect(answer.body).not.toMatch(/\bat .*\.(ts|js):|node_modules|\/src\//);
}

test('every fault is listed by its path', async () => {
  const world = await aWorld();

  const answer = await create(world, {
    name: 'Not_Ok',
    members: 0,
    resources: { cpus: 'many', memMb: 1.5 },
    volumes: { data: { type: 'tape', sizeMb: -1 } },
    durability: 'none',
    extra: 1,
    placement: { spread: 'agent', rack: 'r1' },
  });

  expectProblem(answer, 400);
  expect(
    answer
      .json()
      .faults.map((fault: { path: string }) => fault.path)
      .sort(),
  ).toEqual(
    [
      'durability',
      'extra',
      'members',
      'name',
      'placement.rack',
      'resources.cpus',
      'resources.memMb',
      'volumes.data.sizeMb',
      'volumes.data.type',
    ].sort(),
  );
  expect(await listClusters(world.store)).toEqual([]);
});

const manyBrackets = '['.repeat(30_000) + ']'.repeat(30_000);
test.each([
  ['nothing', ''],
  ['null', 'null'],
  ['a list', '[]'],
  ['a text', '"orders"'],
  ['a number', '1'],
  ['half of JSON', '{"name":'],
  ['no JSON at all', 'name=orders'],
  ['deep nesting', manyBrackets],
  ['deep nesting in a field', `{"name":${manyBrackets}}`],
  ['__proto__', '{"name":"orders","__proto__":{"isAdmin":true}}'],
  ['__proto__ deep below', '{"volumes":{"data":{"__proto__":{"type":"root"}}}}'],
  ['constructor.prototype', '{"constructor":{"prototype":{"isAdmin":true}}}'],
  ['an infinite number', JSON.stringify(aRequest()).replace('"cpus":1', '"cpus":1e999')],
  ['a huge number', JSON.stringify(aRequest()).replace('"memMb":1024', '"memMb":99999999999999999999999')],
  ['a number as text', JSON.stringify(aRequest({ members: '3' }))],
  ['a name of other letters', JSON.stringify(aRequest({ name: 'bestellungen-ä' }))],
  ['a name that looks the same', JSON.stringify(aRequest({ name: 'оrders' }))],
  ['a name with a line end', JSON.stringify(aRequest({ name: 'orders\n' }))],
  ['a name with NUL', JSON.stringify(aRequest({ name: 'orders\u0000' }))],
  ['a path as a name', JSON.stringify(aRequest({ name: '../../etc/passwd' }))],
  ['SQL as a name', JSON.stringify(aRequest({ name: "a'; DROP TABLE cluster; --" }))],
  ['a long name', JSON.stringify(aRequest({ name: 'a'.repeat(41) }))],
  ['an empty name', JSON.stringify(aRequest({ name: '' }))],
  ['one member that waits for others', JSON.stringify(aRequest({ members: 1, durability: 'majority' }))],
  [
    'placement by __proto__',
    JSON.stringify(aRequest()).replace('}}}', '}},"placement":{"attributes":{"__proto__":"x"}}}'),
  ],
])('a body with %s is a bad request and makes nothing', async (_, body) => {
  const world = await aWorld();

  const answer = await create(world, body);

  expectProblem(answer, 400);
  expect(answer.json().code).toBe('BAD_REQUEST');
  expect(answer.json().faults).not.toEqual([]);
  expect(await listClusters(world.store)).toEqual([]);
  expect(({} as Record<string, unknown>)['isAdmin']).toBeUndefined();
});

test('no JSON and no path makes a fault of ours', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const part = fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('v1', 'clusters', 'orders', 'members', '..'));
  const field = fc.constantFrom('name', 'members', 'resources', 'volumes', 'placement', 'kind', 'reason', 'candidate');
  const body = fc.oneof(fc.jsonValue(), fc.dictionary(field, fc.jsonValue()));
  const method = fc.constantFrom('GET' as const, 'POST' as const, 'PATCH' as const, 'PUT' as const);

  const property = fc.asyncProperty(fc.array(part, { maxLength: 5 }), method, body, async (parts, verb, payload) => {
    const url = `/${parts.map(encodeURIComponent).join('/')}`;
    const answers = [
      await create(world, JSON.stringify(payload)),
      await world.app.inject({
        method: 'POST',
        url: '/v1/clusters/orders/failovers',
        payload: JSON.stringify(payload),
        headers: { 'content-type': 'application/json' },
      }),
      await world.app.inject({ method: verb, url, ...(verb === 'GET' ? {} : { payload: { a: 1 } }) }),
    ];
    for (const answer of answers) if (answer.statusCode >= 400) expectProblem(answer, answer.statusCode);
    for (const answer of answers) expect([500, 503]).not.toContain(answer.statusCode);
  });

  await fc.assert(property, { numRuns: 150 });
  expect(await listClusters(world.store)).toHaveLength(1);
});

test('an attribute named constructor is only a name', async () => {
  const world = await aWorld();

  const answer = await create(world, aRequest({ placement: { attributes: { constructor: 'x', toString: 'y' } } }));

  expect(answer.statusCode).toBe(202);
  expect(answer.json().spec.placement.attributes).toEqual({ constructor: 'x', toString: 'y' });
});

test('a body that is too large is refused', async () => {
  const world = await aWorld();

  expectProblem(await create(world, JSON.stringify(aRequest({ name: 'a'.repeat(70_000) }))), 413);
});

test.each(['text/plain', 'application/x-www-form-urlencoded', 'application/xml', 'nonsense'])(
  'a body of %s is refused',
  async (contentType) => {
    const world = await aWorld();

    expectProblem(await create(world, JSON.stringify(aRequest()), { 'content-type': contentType }), 415);
  },
);

test.each([
  '/v1/clusters/..%2f..%2fetc%2fpasswd',
  '/v1/clusters/%00',
  "/v1/clusters/'%20OR%201=1",
  '/v1/clusters/__proto__',
  '/v1/clusters/constructor',
  '/v1/clusters/none/endpoints?watch=true',
  '/v1/clusters/none/failovers/none',
  '/v1/nothing',
  '/',
  '//',
  '/v1/clusters/orders/',
])('GET %s is not found', async (url) => {
  const world = await aWorld();

  expectProblem(await world.app.inject(url), 404);
});

test.each([
  ['/v1/clusters?dryRun=true', 'query.dryRun'],
  ['/v1/clusters?all=yes', 'query.all'],
  ['/v1/clusters?all=true&all=true', 'query.all'],
  ['/v1/events?after=-1', 'query.after'],
  ['/v1/events?after=1e400', 'query.after'],
  ['/v1/events?limit=0', 'query.limit'],
  ['/v1/events?limit=1001', 'query.limit'],
  ['/v1/clusters/orders/members?x=1', null],
])('GET %s is refused', async (url, path) => {
  const world = await aWorld();

  const answer = await world.app.inject(url);

  expectProblem(answer, path ? 400 : 404);
  if (path) expect(answer.json().faults[0].path).toBe(path);
});

test('a name longer than any is not found', async () => {
  const { app } = await aWorld();

  expectProblem(await app.inject(`/v1/clusters/${'a'.repeat(5_000)}`), 404);
});

test('a path that cannot be decoded is a bad request', async () => {
  const { app } = await aWorld();

  expectProblem(await app.inject('/v1/clusters/%zz'), 400);
});

test('a wrong method is told which are right', async () => {
  const { app } = await aWorld();

  const put = await app.inject({ method: 'PUT', url: '/v1/clusters/orders', payload: {} });
  const options = await app.inject({ method: 'OPTIONS', url: '/v1/clusters' });

  expectProblem(put, 405);
  expect(put.headers.allow).toBe('DELETE, GET, HEAD, PATCH');
  expectProblem(options, 405);
});

test('HEAD answers as GET does, without a body', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  const found = await world.app.inject({ method: 'HEAD', url: '/v1/clusters/orders' });
  const missing = await world.app.inject({ method: 'HEAD', url: '/v1/clusters/none' });

  expect([found.statusCode, found.body]).toEqual([200, '']);
  expect(missing.statusCode).toBe(404);
});

test('a fault of ours is logged whole and told without its text', async () => {
  const world = await aWorld();
  world.live.place = () => {
    throw new Error('secret inner text');
  };

  const answer = await create(world, aRequest());

  expectProblem(answer, 500);
  expect(answer.body).not.toContain('secret inner text');
  expect(world.log.join('')).toContain('secret inner text');
  expect(await listClusters(world.store)).toEqual([]);
});

test('secrets do not get into the log', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  await world.app.inject({ method: 'DELETE', url: '/v1/clusters/orders' });

  expect(world.log.join('')).not.toMatch(/team-secret|repl-secret|clone-secret/);
});

test('bytes that are no HTTP get a problem and the process goes on', async () => {
  const { app } = await aWorld();
  await app.listen({ port: 0, host: '127.0.0.1' });
  const socket = connect(portOf(app), '127.0.0.1');
  socket.setEncoding('utf8');
  let text = '';
  socket.on('data', (part) => {
    text += part;
  });

  socket.write('\u0000\u0001 nonsense\r\n\r\n');
  await once(socket, 'close');

  expect(text).toContain('HTTP/1.1 400');
  expect(text).toContain('"code":"BAD_REQUEST"');
  expect((await app.inject('/healthz')).statusCode).toBe(200);
});

test('tokens are required, and each role may do its part', async () => {
  const tokens = [token('reader', 'viewer'), token('shop', 'team'), token('oncall', 'operator')];
  const world = await aWorld({ kind: 'tokens', tokens });
  const as = (name: string) => ({ authorization: `Bearer secret-of-${name}` });
  const status = async (method: 'GET' | 'POST' | 'DELETE', url: string, headers = {}, payload?: object) =>
    (await world.app.inject({ method, url, headers, ...(payload ? { payload } : {}) })).statusCode;

  expect(await status('GET', '/v1/clusters')).toBe(401);
  expect(await status('GET', '/v1/nothing')).toBe(401);
  expect(await status('GET', '/metrics')).toBe(401);
  expect(await status('GET', '/v1/clusters', { authorization: 'Bearer wrong' })).toBe(401);
  expect(await status('GET', '/v1/clusters', { authorization: 'Basic cmVhZGVy' })).toBe(401);
  expect(await status('GET', '/healthz')).toBe(200);
  expect(await status('GET', '/v1/clusters', as('reader'))).toBe(200);
  expect(await status('POST', '/v1/clusters', as('reader'), aRequest())).toBe(403);
  expect(await status('POST', '/v1/clusters', as('shop'), aRequest())).toBe(202);
  expect(await status('GET', '/v1/offers', as('shop'))).toBe(403);
  expect(await status('POST', '/v1/clusters/orders/failovers', as('shop'), {})).toBe(403);
  expect(await status('POST', '/v1/clusters/orders/failovers', as('oncall'), {})).toBe(400);
  expect(await status('DELETE', '/v1/clusters/orders', as('shop'))).toBe(202);
  const unauthorized = await world.app.inject('/v1/clusters');
  expectProblem(unauthorized, 401);
  expect(unauthorized.headers['www-authenticate']).toBe('Bearer');
});

test('without tokens only a loopback name is answered', async () => {
  const { app } = await aWorld();

  const answer = await app.inject({ url: '/v1/clusters', headers: { host: 'evil.example:7070' } });

  expectProblem(answer, 403);
});
