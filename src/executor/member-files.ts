/** Where a member's files are, and writing those that every start writes anew. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LaunchPlan, MemberSecrets } from '../channel/protocol.ts';
import { renderAutoCnf, renderMyCnf } from '../mysql/my-cnf.ts';
import { makeDirectory, writeDurable } from './durable.ts';

export interface MemberPaths {
  /** Root of the data volume. */
  readonly volume: string;
  readonly dataDir: string;
  /** Where a data directory is filled before it gets its name. */
  readonly fillingDir: string;
  readonly tmpDir: string;
  readonly lock: string;
  readonly runDir: string;
  readonly cnf: string;
  readonly socket: string;
  readonly log: string;
}

export function pathsOf(volume: string, runDir: string, sandbox: string): MemberPaths {
  return {
    volume,
    dataDir: join(volume, 'data'),
    fillingDir: join(volume, 'data.filling'),
    tmpDir: join(volume, 'tmp'),
    lock: join(volume, 'lock'),
    runDir,
    cnf: join(runDir, 'my.cnf'),
    socket: join(runDir, 's'),
    log: join(sandbox, 'mysqld.log'),
  };
}

/** my.cnf, auto.cnf and TLS files for a start on `dataDir` (default: the member's). Keys are readable for us alone. */
export async function writeStartFiles(
  paths: MemberPaths,
  options: {
    readonly plan: LaunchPlan;
    readonly serverUuid: string;
    readonly serverId: number;
    readonly secrets: MemberSecrets;
    readonly dataDir?: string;
    readonly ackFlush?: 'os' | 'disk';
  },
): Promise<void> {
  const { plan, secrets } = options;
  const dataDir = options.dataDir ?? paths.dataDir;
  const tls = {
    caFile: join(paths.runDir, 'ca.pem'),
    certFile: join(paths.runDir, 'cert.pem'),
    keyFile: join(paths.runDir, 'key.pem'),
  };
  await rm(paths.tmpDir, { recursive: true, force: true });
  await makeDirectory(paths.tmpDir);
  const cnf = renderMyCnf({
    serverId: options.serverId,
    address: plan.address,
    port: plan.ports.mysql,
    memMb: plan.memMb,
    dataDir,
    tmpDir: paths.tmpDir,
    socketPath: paths.socket,
    pidFile: join(paths.runDir, 'pid'),
    errorLog: paths.log,
    tls,
    ackFlush: options.ackFlush ?? 'os',
  });
  await Promise.all([
    writeDurable(paths.cnf, cnf),
    writeDurable(join(dataDir, 'auto.cnf'), renderAutoCnf(options.serverUuid)),
    writeDurable(tls.caFile, secrets.caCertPem),
    writeDurable(tls.certFile, secrets.certPem),
    writeDurable(tls.keyFile, secrets.keyPem),
  ]);
}
