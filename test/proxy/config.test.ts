import { expect, test } from 'vitest';
import { haproxyConfig } from '../../src/proxy/config.ts';
import { newRoute } from '../../src/proxy/routes.ts';
import { aRoute } from './samples.ts';

const options = { listen: '127.0.0.1', runtimeSocket: '/run/selvedge/runtime.sock' };

test('the configuration is the one that was reviewed', async () => {
  const created = newRoute({ id: 'id-2', name: 'payments', servicePort: 13_305, members: 2 });

  await expect(haproxyConfig([aRoute(), created], options)).toMatchFileSnapshot('../golden/haproxy.cfg');
});

test('the order of the routes does not matter', () => {
  const [one, two] = [aRoute('one', 20_001), aRoute('two', 20_002)];

  expect(haproxyConfig([two, one], options)).toBe(haproxyConfig([one, two], options));
});
