/** Real mysqld processes for tests: a copy of the template, my.cnf as in production, loopback only, always cleaned up. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuthority, issueMemberCertificate } from '../../src/channel/certificates.ts';
import { delay, realClock } from '../../src/clock.ts';
import { connect, errorNumber, type Login, type Session } from '../../src/mysql/connection.ts';
import { type Distribution, findDistribution } from '../../src/mysql/distribution.ts';
import { type MyCnf, renderAutoCnf, renderMyCnf } from '../../src/mysql/my-cnf.ts';
import { copyTemplate, ensureTemplate } from '../../src/mysql/template.ts';

export const cacheDir = join(import.meta.dirname, '..', '..', '.cache', 'mysql');
const bootTimeoutMs = 60_000;

let found: Promise<Distribution> | undefined;
export function testDistribution(): Promise<Distribution> {
  found ??= findDistribution({ env: process.env, cacheDir });
  return found;
}

export interface TestAuthority {
  readonly certPem: string;
  readonly keyPem: string;
}
let authority: Promise<TestAuthority> | undefined;
/** One authority per test process. */
export function testAuthority(): Promise<TestAuthority> {
  authority ??= createAuthority({ commonName: 'selvedge test', serial: '01', now: realClock.now() });
  return authority;
}

export interface InstanceOptions {
  /** Loopback address; default 127.0.0.1. */
  readonly address?: string;
  readonly memMb?: number;
  readonly serverUuid?: string;
  /** Changes to what renderMyCnf is given. */
  readonly myCnf?: Partial<MyCnf>;
  /** Further arguments of mysqld, e.g. `--innodb-read-only`. */
  readonly args?: readonly string[];
  /**
   * A session of its own, as members have: the kernel shares the processors between sessions, and an applier that
   * spins takes from its own session first (sched_autogroup).
   */
  readonly hasOwnSession?: boolean;
  /** Changes the data directory before the first start. */
  readonly prepare?: (dataDir: string) => Promise<void> | void;
  /** false: only prepare; call `start()` later. */
  readonly isStarted?: boolean;
}

export interface Instance {
  readonly address: string;
  readonly port: number;
  readonly serverId: number;
  readonly dir: string;
  readonly dataDir: string;
  readonly socketPath: string;
  readonly caPem: string;
  readonly caFile: string;
  readonly pid: number;
  /** root over the socket (or selvedge, when root is dropped); opened anew by start(). */
  readonly root: Session;
  start(args?: readonly string[]): Promise<void>;
  /** SIGTERM and wait. */
  stop(): Promise<void>;
  /** SIGKILL and wait. */
  kill(): Promise<void>;
  /** Exit code or signal of the last process; waits for its end. */
  ended(): Promise<number | NodeJS.Signals>;
  /** Another session, over the socket. */
  login(login: Login): Promise<Session>;
  /** Another session, over TLS. */
  loginTcp(login: Login): Promise<Session>;
  readErrorLog(): string;
}

const started: { destroy(): Promise<void> }[] = [];
/** For afterEach or afterAll: kills every instance of this test process and removes its files. */
export async function destroyInstances(): Promise<void> {
  await Promise.all(started.splice(0).map((each) => each.destroy()));
}

let lastServerId = 100;

/** A running mysqld, read-only and offline as every member starts, with a root session over its socket. */
export async function startInstance(options: InstanceOptions = {}): Promise<Instance> {
  const distribution = await testDistribution();
  const dir = mkdtempSync(join(tmpdir(), 'sv-'));
  const address = options.address ?? '127.0.0.1';
  const [port, tls] = await Promise.all([freePort(address), writeTls(dir, address)]);
  lastServerId += 1;
  const cnf: MyCnf = {
    serverId: lastServerId,
    address,
    port,
    memMb: options.memMb ?? 400,
    dataDir: join(dir, 'data'),
    tmpDir: join(dir, 'tmp'),
    socketPath: join(dir, 's'),
    pidFile: join(dir, 'pid'),
    errorLog: join(dir, 'error.log'),
    tls,
    ackFlush: 'os',
    ...options.myCnf,
  };
  await mkdir(cnf.tmpDir);
  await writeFile(join(dir, 'my.cnf'), renderMyCnf(cnf));
  await copyTemplate(await ensureTemplate(distribution, cacheDir), cnf.dataDir, { isDurable: false });
  if (options.serverUuid) await writeFile(join(cnf.dataDir, 'auto.cnf'), renderAutoCnf(options.serverUuid));
  await options.prepare?.(cnf.dataDir);
  const instance = createInstance({
    distribution,
    dir,
    cnf,
    args: options.args ?? [],
    hasOwnSession: options.hasOwnSession ?? false,
    caPem: (await testAuthority()).certPem,
  });
  started.push(instance);
  if (options.isStarted !== false) await instance.start();
  return instance;
}

interface Parts {
  readonly distribution: Distribution;
  readonly dir: string;
  readonly cnf: MyCnf;
  readonly args: readonly string[];
  readonly hasOwnSession: boolean;
  readonly caPem: string;
}

function createInstance({
  distribution,
  dir,
  cnf,
  args,
  hasOwnSession,
  caPem,
}: Parts): Instance & { destroy(): Promise<void> } {
  let child: ChildProcess | undefined;
  let root: Session | undefined;
  const errorLog = () => readFileSync(cnf.errorLog, 'utf8');
  const login = (who: Login) => connect({ socketPath: cnf.socketPath }, who, { clock: realClock });

  const signal = async (name: NodeJS.Signals) => {
    await root?.close();
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(name);
    await exited;
  };
  const start = async (more: readonly string[] = []) => {
    child = spawnMysqld(distribution, [`--defaults-file=${join(dir, 'my.cnf')}`, ...args, ...more], hasOwnSession);
    root = await waitForLogin(child, () => loginAsOwner(login), errorLog);
  };
  return {
    address: cnf.address,
    port: cnf.port,
    serverId: cnf.serverId,
    dir,
    dataDir: cnf.dataDir,
    socketPath: cnf.socketPath,
    caPem,
    caFile: cnf.tls.caFile,
    get pid() {
      if (child?.pid === undefined) throw new Error('mysqld is not running');
      return child.pid;
    },
    get root() {
      if (!root) throw new Error('mysqld is not running');
      return root;
    },
    start,
    stop: () => signal('SIGTERM'),
    kill: () => signal('SIGKILL'),
    ended: async () => {
      if (!child) throw new Error('mysqld was never started');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      return child.exitCode ?? child.signalCode ?? -1;
    },
    login,
    loginTcp: (who) => connect({ host: cnf.address, port: cnf.port, caPem }, who, { clock: realClock }),
    readErrorLog: errorLog,
    destroy: async () => {
      await signal('SIGKILL');
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** setpriv: mysqld dies with the test process, also when that is killed. */
function spawnMysqld(distribution: Distribution, args: readonly string[], hasOwnSession: boolean): ChildProcess {
  const [first = '', ...rest] = args;
  const argv = ['--pdeathsig', 'KILL', ...distribution.program('mysqld'), first, ...distribution.serverArgs, ...rest];
  return spawn('setpriv', argv, {
    detached: hasOwnSession,
    stdio: 'ignore',
    env: { ...process.env, MYSQLD_PARENT_PID: String(process.pid) },
  });
}

/** root while there is one, else our own account. */
async function loginAsOwner(login: (who: Login) => Promise<Session>): Promise<Session> {
  try {
    return await login({ user: 'root' });
  } catch (error) {
    if (errorNumber(error) !== 1045) throw error;
    return login({ user: 'selvedge' });
  }
}

async function waitForLogin(
  child: ChildProcess,
  login: () => Promise<Session>,
  errorLog: () => string,
): Promise<Session> {
  const deadline = realClock.now() + bootTimeoutMs;
  for (;;) {
    try {
      return await login();
    } catch (error) {
      const hasEnded = child.exitCode !== null || child.signalCode !== null;
      if (hasEnded || realClock.now() > deadline)
        throw new Error(`mysqld did not start:\n${errorLog()}`, { cause: error });
      await delay(realClock, 20);
    }
  }
}

async function writeTls(dir: string, ip: string): Promise<MyCnf['tls']> {
  const ca = await testAuthority();
  const issue = { commonName: 'member', serial: '02', now: realClock.now(), ip, hostname: 'localhost' };
  const member = await issueMemberCertificate(ca, issue);
  const tls = { caFile: join(dir, 'ca.pem'), certFile: join(dir, 'cert.pem'), keyFile: join(dir, 'key.pem') };
  await Promise.all([
    writeFile(tls.caFile, ca.certPem),
    writeFile(tls.certFile, member.certPem),
    writeFile(tls.keyFile, member.keyPem, { mode: 0o600 }),
  ]);
  return tls;
}

async function freePort(address: string): Promise<number> {
  const server = createServer().listen(0, address);
  await once(server, 'listening');
  const bound = server.address();
  server.close();
  await once(server, 'close');
  if (bound === null || typeof bound === 'string') throw new Error('no TCP port');
  return bound.port;
}
