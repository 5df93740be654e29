/** What is known of a member, as one whole message: cheap facts at any time, the instance's by asking it. */
import { PROTOCOL_VERSION, type Status } from '../channel/protocol.ts';
import { readGtids } from '../mysql/gtid.ts';
import { readHeartbeat } from '../mysql/heartbeat.ts';
import { readAccess } from '../mysql/read-only.ts';
import { readReplication } from '../mysql/replication.ts';
import { readSemiSync } from '../mysql/semi-sync.ts';
import { describe } from './command-queue.ts';
import { readPendingMs } from './heartbeat-loop.ts';
import type { RunningInstance } from './instance.ts';
import type { MemberContext } from './member-context.ts';
import { boundLog } from './mysqld-process.ts';
import { measureVolume } from './volumes.ts';

const POLL_MS = 250;
/** A commit or a probe under way is no news before. */
const NEWS_MS = 500;
/** Walking a data directory is not free: the fill of volumes is news of a slower kind. */
const MEASURE_MS = 10_000;

type InstanceFacts = Pick<
  Status,
  'isWritable' | 'gtidExecuted' | 'gtidReceived' | 'gtidPurged' | 'replication' | 'lagMs' | 'semiSync'
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
    replication: replication && {
      sourceHost: replication.sourceHost,
      sourcePort: replication.sourcePort,
      receiver: replication.receiver,
      applier: replication.applier,
      receiverError: replication.receiverError,
      applierError: replication.applierError,
    },
    lagMs: heartbeat === null ? null : Math.max(0, now() - heartbeat.atMs),
    semiSync,
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
  /** When the probe that is under way, or the first of those that failed in a row, began. */
  let probe: { since: number; message: string } | null = null;

  const readDoubts = (known: InstanceFacts): Pick<Status, 'heartbeatPending' | 'probeFailing'> => {
    const failingMs = context.instance && probe ? clock.now() - probe.since : 0;
    const probeFailing = probe && failingMs >= NEWS_MS ? { forMs: failingMs, message: probe.message } : null;
    const forMs = readPendingMs(context);
    const waitsForAcknowledgement = probeFailing ? null : known.semiSync.waitingSessions > 0;
    return {
      heartbeatPending: forMs === null || forMs < NEWS_MS ? null : { forMs, waitsForAcknowledgement },
      probeFailing,
    };
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
      ...known,
      heartbeatAt: context.heartbeatAt,
      ...readDoubts(known),
      volumes,
      backups: [...context.backups],
      tails: [...context.tails],
      work: context.work,
    };
  };
  const changed = () => {
    const status = build();
    const { sequence: _sequence, at: _at, ...content } = status;
    const text = JSON.stringify(content);
    if (text === published) return;
    published = text;
    sequence += 1;
    const next = { ...status, sequence };
    for (const listener of listeners) listener(next);
  };
  const ask = async () => {
    const { instance } = context;
    if (!instance || context.phase !== 'running') {
      probe = null;
      return changed();
    }
    probe ??= { since: clock.now(), message: 'no answer yet' };
    try {
      await instance.repair();
      const answer = await readInstance(instance, () => clock.now());
      facts = answer;
      factsOf = instance;
      probe = null;
    } catch (error) {
      if (context.instance === instance) log.warn({ err: error }, 'the instance does not answer');
      probe = { since: probe?.since ?? clock.now(), message: describe(error) };
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
  const measure = async () => {
    if (!context.volumes) return;
    const { data, backup } = context.volumes;
    volumes = { data: await measureVolume(data), backup: backup && (await measureVolume(backup)) };
    await boundLog(context.paths.log);
  };
  const poll = () => {
    let isStopped = false;
    let timer: unknown;
    let measuredAt = Number.NEGATIVE_INFINITY;
    const next = async () => {
      if (clock.now() - measuredAt >= MEASURE_MS) {
        measuredAt = clock.now();
        await measure().catch((error: unknown) => log.warn({ err: error }, 'a volume cannot be measured'));
      }
      await refresh();
      if (!isStopped) timer = clock.setTimeout(() => void next(), POLL_MS);
    };
    void next();
    return () => {
      isStopped = true;
      clock.clearTimeout(timer);
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
