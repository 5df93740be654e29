/**
 * Filling a data volume with a copy: here for the `copy` command, and for a `rebuild` that restores its cluster in place
 * (rebuild.ts), with the parts that they share.
 * The `copy` command: fills the empty data volume of a new member with a backup that another executor holds, and with
 * archived logs up to a moment. Rules:
 * - Only a volume that was never filled (guarantee 4): the marker says `copying` from before the first file until the
 *   new member runs on it. What is interrupted is gone on with, or begun anew; nothing else ever starts on it.
 * - The data is started where nobody can reach it first: logs are applied, the old cluster's accounts are closed, and
 *   the set must be exactly the target's.
 */
import { readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command, CommandResult } from '../channel/protocol.ts';
import { createTransferClient, type TransferClient } from '../channel/transfer.ts';
import { copyRoomMb } from '../cluster/recovery.ts';
import { Refusal } from '../errors.ts';
import { adoptData } from '../mysql/adopt.ts';
import { readGtids, subtractGtids } from '../mysql/gtid.ts';
import { readReplication, resetReplication } from '../mysql/replication.ts';
import { copyArgs } from './copy-instance.ts';
import { renameDurable, syncTree } from './durable.ts';
import { requireNoneDying } from './dying.ts';
import { type RunningInstance, startInstance } from './instance.ts';
import { bringUp, enterRunning, forgetInstance } from './lifecycle.ts';
import { beginWork, requireIdle, tellDone, type WorkHandle } from './long-work.ts';
import { type MemberContext, reasonOf, requireVolumes, setPhase } from './member-context.ts';
import { killAndReap } from './mysqld-process.ts';
import { type FetchedBackup, fetchBackup, fetchManifest, forgetFetched, markStarted } from './restore-fetch.ts';
import { type Archive, estimateLogs, replayLogs } from './restore-logs.ts';
import {
  createMarker,
  isEmptyVolume,
  type Marker,
  readMarker,
  requireSamePlace,
  type Volume,
  writeMarker,
} from './volumes.ts';

type Copy = Extract<Command, { kind: 'copy' }>;

const MIB = 1024 * 1024;
const STOP_TIMEOUT_MS = 30 * 60_000;
/** Of no use to the member: identity and logs of the isolated instance. */
const leftOut = /^(auto\.cnf|.*\.pem|copy-relay[.-].*|.*\.pid)$/;

/** Checks, answers, goes on. Status.work tells the rest. The same command again is told as done, or goes on. */
export async function copy(context: MemberContext, command: Copy): Promise<CommandResult> {
  const { data, backup } = requireVolumes(context);
  const what = { kind: 'copy', commandId: command.id } as const;
  requireIdle(context);
  requireNoneDying(context);
  const { marker, plan } = context;
  if (marker && marker.incarnation !== plan.incarnation) {
    const facts = { found: marker.incarnation, expected: plan.incarnation };
    throw new Refusal('INCARNATION_MISMATCH', 'the data volume holds another incarnation', facts);
  }
  context.secrets = command.secrets;
  if (marker?.fill === 'filled') {
    if (context.phase === 'running') return tellDone(context, what);
    throw new Refusal('NOT_RUNNING', 'the data volume is filled: it wants a start');
  }
  if (marker && marker.fill !== 'copying') {
    throw new Refusal('VOLUME_NOT_OURS', `the data volume is ${marker.fill}: a copy fills an empty one`);
  }
  if (!marker) {
    if (!command.initialise) throw new Refusal('VOLUME_NOT_OURS', 'this launch may not fill the data volume');
    await requireEmpty(data, context.backupMarker ? null : backup);
  }
  setPhase(context, 'rebuilding');
  return beginWork(context, what, (work) => run(context, command, { data, backup, work }));
}

async function requireEmpty(data: Volume, backup: Volume | null): Promise<void> {
  for (const volume of backup ? [data, backup] : [data]) {
    await requireSamePlace(volume);
    if (await isEmptyVolume(volume)) continue;
    throw new Refusal('VOLUME_NOT_OURS', `the ${volume.kind} volume has no marker and is not empty`);
  }
}

interface RunOptions {
  readonly data: Volume;
  readonly backup: Volume | null;
  readonly work: WorkHandle;
}

async function run(context: MemberContext, command: Copy, { data, backup, work }: RunOptions): Promise<void> {
  const { plan, paths, clock } = context;
  const { replication, clone } = command.secrets;
  const source = openSource(context, command);
  const options = { data, work, serverId: plan.serverId, own: [replication.user, clone.user] };
  try {
    if (backup && !context.backupMarker) {
      await writeMarker(backup, createMarker(backup, plan, fillOf(context, command, 'filled')));
      context.backupMarker = await readMarker(backup);
    }
    context.marker = await mark(context, data, command, 'copying');
    work.signal.throwIfAborted();
    await context.state.update({ leaderToken: command.leaderToken, epoch: command.epoch });
    await rm(paths.dataDir, { recursive: true, force: true });
    const found = await findSource(context, source, { data, work });
    const target = await fillFrom(context, source, { ...options, found });
    work.signal.throwIfAborted();
    await renameDurable(paths.fillingDir, paths.dataDir);
    await forgetFetched(paths.fillingDir);
    work.step('starting');
    const instance = await bringUp(context, work.signal, { isFilling: true });
    await requireSet(instance, target);
    context.marker = await mark(context, data, command, 'filled');
    enterRunning(context, instance);
    await context.refresh();
  } catch (error) {
    const { process } = context;
    forgetInstance(context);
    if (process) await killAndReap(process, clock);
    // A fence has set its own state already.
    if (context.phase === 'rebuilding') setPhase(context, 'failed', reasonOf(error, 'COMMAND_FAILED'));
    throw error;
  } finally {
    source.close();
  }
}

function fillOf({ plan }: MemberContext, { epoch }: Copy, fill: Marker['fill']) {
  const { incarnation, serverUuid, serverId } = plan;
  return { incarnation, serverUuid, serverId, epoch, fill };
}

async function mark(context: MemberContext, data: Volume, command: Copy, fill: Marker['fill']): Promise<Marker> {
  const marker = createMarker(data, context.plan, fillOf(context, command, fill));
  await writeMarker(data, marker);
  return marker;
}

type CopySource = Pick<Copy, 'backup' | 'donors' | 'until' | 'within'>;

export interface OpenSource extends CopySource {
  readonly clients: readonly Archive[];
  close(): void;
}

/** Close it: it keeps connections. */
export function openSource({ clock }: MemberContext, source: CopySource): OpenSource {
  const clients = source.donors.map((donor) => ({
    ordinal: donor.ordinal,
    client: createTransferClient(donor, clock),
  }));
  const close = () => {
    for (const { client } of clients) client.close();
  };
  const { backup, donors, until, within } = source;
  return { backup, donors, until, within, clients, close };
}

interface LookOptions {
  readonly data: Volume;
  readonly work: WorkHandle;
  /** What lies in the data volume and goes before. */
  readonly goingBytes?: number;
}

interface FoundSource extends FetchedBackup {
  /** To fetch and apply, about. */
  readonly total: number;
}

/** Everything that can be known before a volume is touched: the backup is there and fits, logs lead to the target. */
export async function findSource(
  context: MemberContext,
  { clients, backup: { id, ordinal }, until, within }: OpenSource,
  { data, work, goingBytes = 0 }: LookOptions,
): Promise<FoundSource> {
  const { clock } = context;
  const { signal } = work;
  work.step('looking at the backup');
  const backup = await fetchManifest({ client: clientOf(clients, ordinal), clock, signal, backupId: id });
  await requireUsable(context, backup, { data, goingBytes });
  const executed = backup.manifest.gtidSet;
  const logBytes = await estimateLogs(clients, { executed, target: { until, within }, clock, signal });
  return { ...backup, total: backup.manifest.bytes + logBytes };
}

interface FillOptions {
  readonly found: FoundSource;
  readonly data: Volume;
  readonly work: WorkHandle;
  /** Of the member that will run on it; no transaction in the logs is of it. */
  readonly serverId: number;
  /** Accounts that every cluster has. */
  readonly own: readonly string[];
}

/** Leaves in `data.filling` what the member starts with; answers the set that it holds. */
export async function fillFrom(context: MemberContext, source: OpenSource, options: FillOptions): Promise<string> {
  const { found, data, work, serverId } = options;
  const { clients, until, within } = source;
  const { clock, paths, plan } = context;
  const { signal } = work;
  const { total, manifest } = found;
  let done = 0;
  const onBytes = (count: number) => {
    done += count;
    work.progress(Math.min(done, total), total);
  };
  work.step('fetching the backup');
  const { id: backupId, ordinal } = source.backup;
  const client = clientOf(clients, ordinal);
  await fetchBackup({ client, clock, signal, backupId, backup: found, target: paths.fillingDir, onBytes });
  await markStarted(paths.fillingDir, manifest);
  work.step('opening the backup');
  const instance = await openIsolated(context, { signal, serverId });
  try {
    if (await readReplication(instance.admin)) await resetReplication(instance.admin);
    await requireSet(instance, manifest.gtidSet);
    const reached = await replayLogs({
      archives: clients,
      target: { until, within },
      executed: manifest.gtidSet,
      session: instance.admin,
      dataDir: paths.fillingDir,
      workDir: join(data.path, 'logs.fetching'),
      clock,
      signal,
      step: work.step,
      onBytes,
    });
    work.step('taking over');
    if (manifest.cluster !== plan.cluster) {
      await adoptData(instance.admin, { from: manifest.cluster, own: options.own });
    }
    await requireSet(instance, reached);
    const exit = await instance.terminate(STOP_TIMEOUT_MS);
    if (exit.kind !== 'ended' || exit.exitCode !== 0) throw new Error('the isolated instance did not stop cleanly');
    await tidy(paths.fillingDir);
    return reached;
  } catch (error) {
    await instance.kill();
    throw error;
  }
}

function clientOf(clients: readonly Archive[], ordinal: number): TransferClient {
  const found = clients.find((each) => each.ordinal === ordinal);
  if (!found) throw new Refusal('BAD_REQUEST', `member ${ordinal} holds the backup and is no donor`);
  return found.client;
}

/** Of this series, and small enough. Looked at before a byte of data is fetched. */
async function requireUsable(
  context: MemberContext,
  { manifest }: FetchedBackup,
  { data, goingBytes }: { readonly data: Volume; readonly goingBytes: number },
): Promise<void> {
  const { version } = await context.findDistribution();
  if (seriesOf(version) !== seriesOf(manifest.mysqlVersion)) {
    const message = `the backup is of MySQL ${manifest.mysqlVersion}, this agent has ${version}`;
    throw new Refusal('MYSQL_UNSUPPORTED', message);
  }
  const fs = await statfs(data.path);
  // What an interrupted copy fetched is in the way of nothing: it is gone on with.
  const freeBytes = fs.bavail * fs.bsize + goingBytes;
  const roomBytes = Math.min(data.sizeMb * MIB, freeBytes);
  const neededBytes = manifest.bytes + copyRoomMb * MIB;
  if (neededBytes <= roomBytes || context.marker?.fill === 'copying') {
    if (neededBytes <= data.sizeMb * MIB) return;
  }
  const toMb = (bytes: number) => Math.ceil(bytes / MIB);
  const message = `it needs ${toMb(neededBytes)} MB, the data volume has room for ${toMb(roomBytes)} MB`;
  throw new Refusal('VOLUME_TOO_SMALL', message, { neededBytes, roomBytes });
}

const seriesOf = (version: string): string => version.split('.').slice(0, 2).join('.');

/** A socket and nothing else; appliers in parallel, and memory for them: the member's own instance does not run. */
async function openIsolated(
  context: MemberContext,
  { signal, serverId }: { readonly signal: AbortSignal; readonly serverId: number },
): Promise<RunningInstance> {
  const { paths, plan } = context;
  const socketPath = join(paths.runDir, 'r');
  const logPath = `${paths.log}.copy`;
  const poolMb = Math.max(32, Math.floor((plan.memMb - 300) * 0.6));
  return startInstance({
    distribution: await context.findDistribution(),
    cnfPath: null,
    extraArgs: [
      ...copyArgs({ dataDir: paths.fillingDir, socketPath, logPath }),
      `--server-id=${serverId}`,
      // Else an applier leaves out, without a word, what a server with its own id wrote.
      '--replicate-same-server-id',
      `--innodb-buffer-pool-size=${poolMb}M`,
      '--innodb-redo-log-capacity=256M',
      // A crash begins anew: nothing has to last before the clean end.
      '--innodb-flush-log-at-trx-commit=0',
      '--replica-parallel-workers=8',
      '--replica-preserve-commit-order=ON',
      '--relay-log-recovery=OFF',
      '--max-allowed-packet=1G',
      '--replica-max-allowed-packet=1G',
    ],
    lockPath: paths.lock,
    logPath,
    socketPath,
    cwd: paths.volume,
    isCopy: true,
    clock: context.clock,
    signal,
    onSpawn: (process) => {
      context.process = process;
    },
  });
}

/** The instance holds this set and nothing else. */
export async function requireSet({ admin }: RunningInstance, gtidSet: string): Promise<void> {
  const { executed } = await readGtids(admin);
  const [missing, extra] = await Promise.all([
    subtractGtids(admin, gtidSet, executed),
    subtractGtids(admin, executed, gtidSet),
  ]);
  if (missing === '' && extra === '') return;
  throw new Refusal('BACKUP_DAMAGED', 'the data holds another GTID set than it should', { missing, extra });
}

async function tidy(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isFile() && leftOut.test(entry.name)) await rm(join(directory, entry.name), { force: true });
  }
  await syncTree(directory);
}
