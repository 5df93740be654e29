import { expect, test } from 'vitest';
import { type MyCnf, renderMyCnf } from '../../src/mysql/my-cnf.ts';

const options: MyCnf = {
  serverId: 17,
  address: '10.1.2.3',
  port: 31_000,
  memMb: 400,
  dataDir: '/mnt/data/mysql',
  tmpDir: '/mnt/data/tmp',
  socketPath: '/run/sv/17/s',
  pidFile: '/run/sv/17/pid',
  errorLog: '/mnt/sandbox/mysqld.log',
  tls: { caFile: '/run/sv/17/ca.pem', certFile: '/run/sv/17/cert.pem', keyFile: '/run/sv/17/key.pem' },
  ackFlush: 'os',
};
const golden = (name: string) => `../golden/my-cnf/${name}.cnf`;

test('a small member gets a small my.cnf', async () => {
  await expect(renderMyCnf(options)).toMatchFileSnapshot(golden('small'));
});

test('a large member with acknowledgements on disk gets a large my.cnf', async () => {
  await expect(renderMyCnf({ ...options, memMb: 16_384, ackFlush: 'disk' })).toMatchFileSnapshot(golden('large'));
});

test('a path cannot smuggle in a setting or be cut short', () => {
  for (const dataDir of ['/data\nsuper_read_only=OFF', '/data # x', '/da\\ta', '/data ', '/"data"']) {
    expect(() => renderMyCnf({ ...options, dataDir }), dataDir).toThrow('my.cnf cannot hold this datadir');
  }
});

test('a socket path beyond the limit of Unix sockets is refused', () => {
  expect(() => renderMyCnf({ ...options, socketPath: `/${'s'.repeat(107)}` })).toThrow('107 bytes');
});
