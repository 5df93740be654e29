/**
 * Full backup of the running instance onto the backup volume: CLONE LOCAL, start the copy in place to learn its exact
 * GTID set (for LOCAL the server tells none), stop it cleanly, hash every file, and only then give it its name. Whatever
 * interrupts this leaves a `.partial` directory that counts for nothing.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command, CommandResult } from '../channel/protocol.ts';
import { type Clock, delay } from '../clock.ts';
import { Refusal } from '../errors.ts';
import { cloneLocal, readCloneProgress } from '../mysql/clone.ts';
import type { Session } from '../mysql/connection.ts';
import { readGtids } from '../mysql/gtid.ts';
import { isMissing, renameDurable, syncTree } from './durable.ts';
import { openSession, startInstance } from './instance.ts';
import { beginWork, requireIdle, tellDone, type WorkHandle } from './long-work.ts';
import { dataOf, findManifest, hashFiles, listBackups, placeOf, writeManifest } from './manifest.ts';
import { type MemberContext, requireInstance, requireVolumes } from './member-context.ts';
import type { Volume } from './volumes.ts';

const PROGRESS_MS = 500;
const STOP_TIMEOUT_MS = 5 * 60_000;
const STALL_MS = 10 * 60_000;
/** Of no use to another instance: identity, pid files, logs' indexes, temporary and persisted settings. */
const leftOut = /^(auto\.cnf|mysqld-auto\.cnf|.*\.pid|.*\.pem|ibtmp1|ib_buffer_pool|(binlog|relay|copy)[.-].*)$/;

/** The `backup` command: checks, answers, goes on. The same id again is told as done. */
export async function backup(
  context: MemberContext,
  command: Extract<Command, { kind: 'backup' }>,
): Promise<CommandResult> {
  const { backup: volume } = requireVolumes(context);
  const what = { kind: 'backup', commandId: command.id } as const;
  if (!volume) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
  requireIdle(context);
  const place = placeOf(volume, command.backupId);
  if (await findManifest(place.final)) return tellDone(context, what);
  requireInstance(context);
  return beginWork(context, what, (work) => takeBackup(context, volume, command.backupId, work));
}

async function takeBackup(context: MemberContext, volume: Volume, id: string, work: WorkHandle): Promise<void> {
  const { clock, plan } = context;
  const { partial, final } = placeOf(volume, id);
  const startedAt = clock.now();
  const { marker } = context;
  if (!marker) throw new Refusal('NOT_RUNNING', 'the data volume has no marker');
  try {
    work.step('copying');
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true, mode: 0o700 });
    await copyInstance(context, dataOf(partial), work);
    work.step('starting the copy');
    const gtidSet = await learnGtidSet(context, volume, dataOf(partial), work.signal);
    work.step('hashing');
    await removeLeftOut(dataOf(partial));
    const files = await hashFiles(dataOf(partial), {
      signal: work.signal,
      progress: (done) => work.progress(done, null),
    });
    work.step('sealing');
    const { installation, cluster, clusterName, ordinal } = plan;
    const { incarnation, serverUuid } = marker;
    const about = { id, installation, cluster, clusterName, ordinal, incarnation, serverUuid };
    const { epoch } = context.state.get();
    const mysqlVersion = (await context.findDistribution()).version;
    const times = { startedAt, endedAt: clock.now() };
    await writeManifest(partial, { ...about, epoch, mysqlVersion, gtidSet, ...times }, files);
    await syncTree(partial);
    work.signal.throwIfAborted();
    await renameDurable(partial, final);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {}); // the next start removes it
    throw error;
  }
  await refreshBackups(context, volume);
}

/** Reads the list of complete backups into the status. */
export async function refreshBackups(context: MemberContext, volume: Volume): Promise<void> {
  const all = await listBackups(volume);
  const { installation, cluster } = context.plan;
  context.backups = all
    .filter((each) => each.installation === installation && each.cluster === cluster)
    .map(({ id, gtidSet, bytes, startedAt, endedAt }) => ({ id, gtidSet, bytes, startedAt, endedAt }));
  context.changed();
}

/** CLONE LOCAL on a session of its own: closing it ends the copying. */
async function copyInstance(context: MemberContext, target: string, work: WorkHandle): Promise<void> {
  const instance = requireInstance(context);
  const session = await openSession({ socketPath: context.paths.socket, clock: context.clock });
  const onAbort = () => void session.close();
  work.signal.addEventListener('abort', onAbort, { once: true });
  try {
    await withProgress(context.clock, instance.probe, work, cloneLocal(session, target));
    work.signal.throwIfAborted();
  } finally {
    work.signal.removeEventListener('abort', onAbort);
    await session.close();
  }
}

/**
 * Waits for a running CLONE and reports how far it is, asked over another session. Rejects when nothing moved for ten
 * minutes: a donor whose commits wait for acknowledgements never ends its CLONE. The caller then ends its session.
 */
export async function withProgress(
  clock: Clock,
  session: Session,
  work: WorkHandle,
  cloning: Promise<void>,
): Promise<void> {
  const ended = new AbortController();
  const watch = async () => {
    let done = -1;
    for (let movedAt = clock.now(); clock.now() - movedAt < STALL_MS; ) {
      await delay(clock, PROGRESS_MS, ended.signal);
      const progress = await readCloneProgress(session);
      if (!progress || progress.doneBytes === done) continue;
      done = progress.doneBytes;
      movedAt = clock.now();
      work.progress(done, progress.totalBytes);
    }
    throw new Refusal('TIMED_OUT', 'CLONE does not move: do commits of the donor wait for acknowledgements?');
  };
  const stalled = watch().catch((error: unknown) => {
    if (error instanceof Refusal) throw error;
    return new Promise<never>(() => {}); // ended, or the session did: only the clone itself counts then
  });
  try {
    await Promise.race([cloning, stalled]);
  } finally {
    ended.abort(new Error('ended'));
    cloning.catch(() => {}); // given up: its session is closed by the caller
  }
}

/** Starts the copy where it lies: socket only, nothing can write, no binary log. Answers its exact GTID set. */
async function learnGtidSet(
  context: MemberContext,
  volume: Volume,
  dataDir: string,
  signal: AbortSignal,
): Promise<string> {
  const socketPath = join(context.paths.runDir, 'b');
  const logPath = `${context.paths.log}.backup`;
  const copy = await startInstance({
    distribution: await context.findDistribution(),
    cnfPath: null,
    extraArgs: copyArgs({ dataDir, socketPath, logPath, runDir: context.paths.runDir }),
    lockPath: join(volume.path, 'lock'),
    logPath,
    socketPath,
    cwd: volume.path,
    isCopy: true,
    clock: context.clock,
    signal,
  });
  try {
    const { executed } = await readGtids(copy.admin);
    signal.throwIfAborted();
    const exit = await copy.terminate(STOP_TIMEOUT_MS);
    if (exit.kind !== 'ended' || exit.exitCode !== 0) throw new Error('the copy did not stop cleanly');
    return executed;
  } catch (error) {
    await copy.kill();
    throw error;
  }
}

function copyArgs(paths: { dataDir: string; socketPath: string; logPath: string; runDir: string }): string[] {
  return [
    `--datadir=${paths.dataDir}`,
    `--socket=${paths.socketPath}`,
    `--pid-file=${join(paths.runDir, 'b.pid')}`,
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
    '--plugin-load-add=auth_socket=auth_socket.so',
    '--performance-schema=OFF',
    '--innodb-buffer-pool-size=32M',
    '--innodb-buffer-pool-dump-at-shutdown=OFF',
    '--table-open-cache=200',
    '--max-connections=10',
  ];
}

async function removeLeftOut(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!leftOut.test(name)) continue;
    const path = join(dataDir, name);
    const isFile = await stat(path).then((found) => found.isFile(), rethrowUnlessMissing);
    if (isFile) await rm(path, { force: true });
  }
}

function rethrowUnlessMissing(error: unknown): boolean {
  if (isMissing(error)) return false;
  throw error;
}
