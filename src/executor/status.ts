/** What is known of a member, as one whole message: cheap facts at any time, the instance's by asking it. */
import { PROTOCOL_VERSION, type Status } from '../channel/protocol.ts';
import { readGtids } from '../mysql/gtid.ts';
import { readHeartbeat } from '../mysql/heartbeat.ts';
import { readLongestTransaction } from '../mysql/long-transaction.ts';
import { readAccess } from '../mysql/read-only.ts';
import { readRelayLogFlush } from '../mysql/relay-log.ts';
import { readReplication } from '../mysql/replication.ts';
import { readSemiSync } from '../mysql/semi-sync.ts';
import { readPendingMs } from './heartbeat-loop.ts';
import type { RunningInstance } from './instance.ts';
import type { MemberContext } from './member-context.ts';
import { boundLog } from './mysqld-process.ts';
import { startProbe } from './probe.ts';
import { pruneTails } from './tail-retention.ts';
import { measureVolume, type Volume } from './volumes.ts';

const POLL_MS = 250;
/** A commit under way is no news before. */
const NEWS_MS = 500;
/** A session that does not answer is replaced; what was read longer ago says nothing about now. */
const ANSWER_MS = 2_500;
/** Walking a data directory is not free: the fill of volumes is news of a slower kind. */
const MEASURE_MS = 10_000;
/** A file system of its own answers at once, and may fill in seconds. */
const ASK_MS = 1_000;
/** A look at all transactions costs more than the rest. */
const TRANSACTIONS_MS = 2_000;

/** These change at every look: they are told with the next news, or each second. */
const isNoNews: ReadonlySet<string> = new Set(['sequence', 'at', 'heardMsAgo', 'startedMsAgo', 'archive', 'logs']);

type InstanceFacts = Pick<
  Status,
  | 'isWritable'
  | 'gtidExecuted'
  | 'gtidReceived'
  | 'gtidPurged'
  | 'flushesRelayLog'
  | 'replication'
  | 'lagMs'
  | 'semiSync'
>;

export const unknownFacts: InstanceFacts = {
  isWritable: false,
  gtidExecuted: '',
  gtidReceived: '',
  gtidPurged: '',
  replication: null,
  lagMs: null,
  semiSync: { isSource: false, k: 0, isReplica: false, clients: 0, waitingSessions: 0, noTx: 0 },
};

/** Asks an instance over its probe session. Throws when it does not answer. */
export async function readInstance(instance: RunningInstance, now: () => number): Promise<InstanceFacts> {
  const { probe } = instance;
  const flushesRelayLog = await readRelayLogFlush(probe);
  const [access, gtids, replication, semiSync, heartbeat] = await Promise.all([
    readAccess(probe),
    readGtids(probe),
    readReplication(probe),
    readSemiSync(probe),
    readHeartbeat(probe),
  ]);
  return {
    isWritable: !access.isReadOnly,
    gtidExecuted: gtids.executed,
    gtidReceived: replication?.received ?? '',
    gtidPurged: gtids.purged,
    flushesRelayLog,
    replication: replication && {
      sourceHost: replication.sourceHost,
      sourcePort: replication.sourcePort,
      receiver: replication.receiver,
      applier: replication.applier,
      receiverError: replication.receiverError,
      heardMsAgo: replication.heardMsAgo,
      applierError: replication.applierError,
    },
    lagMs: heartbeat === null ? null : Math.max(0, now() - heartbeat.atMs),
    semiSync: { ...semiSync, acknowledgers: semiSync.acknowledgers && [...semiSync.acknowledgers] },
  };
}

/** Absent when the launch was refused for another reason than a lost backup volume. */
function tellFound({ volumes, refusal, isBackupLost, free, ...context }: MemberContext): Status['volumesFound'] {
  if (!volumes || (refusal && !isBackupLost)) return undefined;
  const { data, backup } = volumes;
  const tell = ({ place, isOwnDevice }: Volume, isMarked: boolean, isEmpty: boolean) => {
    return { place, isOwnDevice, isMarked, isEmpty };
  };
  return {
    data: tell(data, context.marker !== null, free.data),
    backup: backup && tell(backup, context.backupMarker !== null, free.backup),
  };
}

export interface StatusKeeper {
  get(): Status;
  /** Calls back with every changed status until the returned function is called. */
  listen(listener: (status: Status) => void): () => void;
  /** Publishes when anything but the time differs from what was published last. */
  changed(): void;
  /** Asks the instance, then publishes. Calls while one is under way share the next one. Never throws. */
  refresh(): Promise<void>;
  /** Polls until the returned function is called. */
  poll(): () => void;
}

/**
 * Keeps the status of one member. Facts of an instance that is gone are not kept; those of one that does not answer are
 * its last ones, and `probeFailing` says so. An instance that was never asked is not called running: nobody may take
 * "nothing known" for "holds nothing".
 */
export function createStatusKeeper(context: MemberContext): StatusKeeper {
  const { clock, log, plan } = context;
  const listeners = new Set<(status: Status) => void>();
  let facts = unknownFacts;
  let factsOf: RunningInstance | null = null;
  let volumes: Status['volumes'] = {
    data: { totalMb: plan.data.sizeMb, usedMb: 0 },
    backup: plan.backup && { totalMb: plan.backup.sizeMb, usedMb: 0 },
  };
  let sequence = 0;
  let published = '';
  let running: Promise<void> | null = null;
  let isAskedAgain = false;
  let factsAt = Number.NEGATIVE_INFINITY;
  let longest: Status['longestTransaction'] = null;
  let longestOf: RunningInstance | null = null;
  let longestAt = Number.NEGATIVE_INFINITY;
  const probe = startProbe(context, () => changed());

  /** Grown old since they were read. */
  const heard = ({ replication }: InstanceFacts): InstanceFacts['replication'] => {
    const heardMsAgo = replication?.heardMsAgo ?? null;
    if (!replication || heardMsAgo === null) return replication;
    return { ...replication, heardMsAgo: heardMsAgo + Math.max(0, clock.now() - factsAt) };
  };
  const readDoubts = (known: InstanceFacts): Pick<Status, 'heartbeatPending' | 'probeFailing'> => {
    const forMs = readPendingMs(context, NEWS_MS);
    const isAnswering = clock.now() - factsAt < ANSWER_MS;
    const waitsForAcknowledgement = isAnswering ? known.semiSync.waitingSessions > 0 : null;
    return {
      heartbeatPending: forMs === null ? null : { forMs, waitsForAcknowledgement },
      probeFailing: probe.read() ?? null,
    };
  };
  /** It was sent SIGKILL and has not ended: as long as nothing is proven it counts as there. */
  const tellDying = (): Partial<Status> => {
    const { dying } = context;
    if (!dying || context.phase !== 'held') return {};
    const forMs = clock.now() - dying.since;
    return {
      ...facts,
      instance: 'running',
      reason: { code: 'HELD', message: 'mysqld was sent SIGKILL and has not ended yet' },
      heartbeatPending: facts.isWritable ? { forMs, waitsForAcknowledgement: false } : null,
      probeFailing: { forMs, message: 'it was sent SIGKILL' },
    };
  };
  const tellArchive = (): Status['archive'] => {
    const archive = context.archive.status();
    return archive && { ...archive, refill: context.refiller.status() };
  };
  const build = (): Status => {
    const { epoch, leaderToken } = context.state.get();
    const isKnown = context.instance !== null && context.instance === factsOf;
    const known = isKnown ? facts : unknownFacts;
    return {
      version: PROTOCOL_VERSION,
      taskId: plan.taskId,
      sequence,
      at: clock.now(),
      bootId: context.bootId,
      incarnation: context.marker?.incarnation ?? plan.incarnation,
      serverUuid: context.marker?.serverUuid ?? plan.serverUuid,
      epoch,
      leaderToken,
      instance: context.phase === 'running' && !isKnown ? 'starting' : context.phase,
      reason: context.reason,
      isInitialised: context.marker?.fill === 'filled',
      dataPlace: context.volumes?.data.place ?? null,
      volumesFound: tellFound(context),
      ...known,
      ...(known.flushesRelayLog === undefined
        ? {}
        : { flushesRelayLog: known.flushesRelayLog && context.areRelayLogsFlushed }),
      replication: heard(known),
      heartbeatAt: context.heartbeatAt,
      ...readDoubts(known),
      longestTransaction: isKnown && longestOf === factsOf ? longest : null,
      volumes,
      backups: [...context.backups],
      areBackupsKnown: context.areBackupsKnown,
      archive: tellArchive(),
      logs: context.logKeeper.status(),
      tails: [...context.tails],
      work: context.work,
      ...tellDying(),
    };
  };
  const changed = () => {
    const status = build();
    const text = JSON.stringify(status, (key, value) => (isNoNews.has(key) ? undefined : value));
    if (text === published) return;
    published = text;
    sequence += 1;
    const next = { ...status, sequence };
    for (const listener of listeners) listener(next);
  };
  /** A session that hangs is closed, which ends its queries; the next look opens another one. */
  const answerInTime = async (instance: RunningInstance): Promise<InstanceFacts> => {
    await instance.repair();
    const { probe: session } = instance;
    const timer = clock.setTimeout(() => void session.close(), ANSWER_MS);
    try {
      return await readInstance(instance, () => clock.now());
    } finally {
      clock.clearTimeout(timer);
    }
  };
  const findLongest = async (instance: RunningInstance, { isWritable }: InstanceFacts) => {
    const isKnown = longestOf === instance && clock.now() - longestAt < TRANSACTIONS_MS;
    if (isWritable && isKnown) return;
    longestAt = clock.now();
    longestOf = instance;
    const found = isWritable ? await readLongestTransaction(instance.probe, TRANSACTIONS_MS) : null;
    longest = found && { session: found.session, user: found.user, startedMsAgo: found.forMs };
  };
  const ask = async () => {
    const { instance } = context;
    if (!instance || context.phase !== 'running') return changed();
    try {
      const answer = await answerInTime(instance);
      facts = answer;
      factsOf = instance;
      factsAt = clock.now();
      await findLongest(instance, answer);
    } catch (error) {
      if (context.instance === instance) log.warn({ err: error }, 'the instance does not answer');
    }
    changed();
  };
  const refresh = async (): Promise<void> => {
    if (running !== null) {
      isAskedAgain = true;
      return running;
    }
    running = ask().finally(() => {
      running = null;
    });
    await running;
    if (!isAskedAgain) return;
    isAskedAgain = false;
    await refresh();
  };
  const measuredAt = { data: Number.NEGATIVE_INFINITY, backup: Number.NEGATIVE_INFINITY };
  let isMeasuring = false;
  const measureOne = async (kind: 'data' | 'backup') => {
    const volume = context.volumes?.[kind];
    if (!volume || clock.now() - measuredAt[kind] < (volume.isOwnDevice ? ASK_MS : MEASURE_MS)) return;
    measuredAt[kind] = clock.now();
    volumes = { ...volumes, [kind]: await measureVolume(volume) };
    if (kind === 'data') await boundLog(context.paths.log);
  };
  /** Not waited for: a disk that hangs must not keep anything from being told. */
  const measure = async () => {
    if (isMeasuring) return;
    isMeasuring = true;
    try {
      await measureOne('data');
      await measureOne('backup');
      await pruneTails(context);
    } catch (error) {
      log.warn({ err: error }, 'a volume cannot be measured');
    } finally {
      isMeasuring = false;
    }
  };
  const poll = () => {
    let isStopped = false;
    let timer: unknown;
    const next = async () => {
      void measure();
      let isPast = false;
      const look = () => {
        if (isPast || isStopped) return;
        isPast = true;
        clock.clearTimeout(timer);
        timer = clock.setTimeout(() => void next(), POLL_MS);
      };
      // An instance that hangs does not keep its doubts from being told: they grow meanwhile.
      timer = clock.setTimeout(() => {
        changed();
        look();
      }, POLL_MS);
      await refresh();
      look();
    };
    void next();
    return () => {
      isStopped = true;
      clock.clearTimeout(timer);
      probe.stop();
    };
  };
  return {
    get: () => build(),
    listen: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    changed,
    refresh,
    poll,
  };
}
