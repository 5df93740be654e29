// Fills .cache/mysql/<version> with MySQL from Debian's unstable suite.
import { series } from '../src/mysql/distribution-cache.mjs';
import { fillFromDebian } from './debian-packages.mjs';

const mysql = {
  packages: ['mysql-server-core', 'mysql-client-core'],
  programs: ['usr/sbin/mysqld', 'usr/bin/mysqlbinlog', 'usr/bin/mysql', 'usr/bin/mysqldump'],
  series: `${series}.`,
  shares: ['mysql'],
  neededMb: 900,
  downloadMb: 70,
  checksums: 'mysql-checksums.json',
  instead: `Or set SELVEDGE_MYSQL_HOME to an unpacked MySQL ${series}.`,
};

/** Fills the cache. Runs under setup's lock. */
export function fillCache(cacheDir, checksumsDir) {
  fillFromDebian(mysql, cacheDir, checksumsDir);
}
