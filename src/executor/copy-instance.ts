/**
 * How mysqld is started on a copy of a data directory: to look at it, never to serve. A socket and nothing else, no binary
 * log, nobody but us, little memory. What a crash leaves of a copy is thrown away: no page has to be written twice.
 */
export function copyArgs(paths: {
  readonly dataDir: string;
  readonly socketPath: string;
  readonly logPath: string;
}): string[] {
  return [
    `--datadir=${paths.dataDir}`,
    `--socket=${paths.socketPath}`,
    `--pid-file=${`${paths.socketPath}.pid`}`,
    `--log-error=${paths.logPath}`,
    '--skip-networking',
    '--mysqlx=OFF',
    '--skip-log-bin',
    '--relay-log=copy-relay',
    '--skip-replica-start',
    '--super-read-only',
    '--offline-mode',
    '--persisted-globals-load=OFF',
    '--event-scheduler=OFF',
    '--gtid-mode=ON',
    '--enforce-gtid-consistency=ON',
    '--server-id=1',
    '--auto-generate-certs=OFF',
    '--caching-sha2-password-auto-generate-rsa-keys=OFF',
    '--sha256-password-auto-generate-rsa-keys=OFF',
    '--plugin-load-add=auth_socket=auth_socket.so',
    '--performance-schema=OFF',
    '--innodb-buffer-pool-size=32M',
    '--innodb-buffer-pool-dump-at-shutdown=OFF',
    '--innodb-buffer-pool-load-at-startup=OFF',
    '--innodb-doublewrite=OFF',
    // With it the end takes half a second longer (measured), a wait of the threads that reap.
    '--innodb-use-native-aio=OFF',
    '--table-open-cache=200',
    '--max-connections=10',
  ];
}
