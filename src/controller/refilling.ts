/**
 * Has gaps in the archives of members filled from each other, one at a time in a cluster, while nothing graver is to be
 * done. All in memory: what runs is told by its executor, and a control plane that was started anew finds it there.
 */
import type { Status } from '../channel/protocol.ts';
import { isGtidSubset, parseGtidSet } from '../cluster/gtid-set.ts';
import { findOwnGap, findRefill, type Refill, type RefillMember } from '../cluster/refill.ts';
import { goodBackupsOf } from './archives.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, isRunning, type MemberView, primaryOf } from './gather.ts';
import { shareMember } from './sharing.ts';

const lookMs = 5_000;
/** The member itself may be about to close it: a log of its own that it copies again. */
const gapAgeMs = 20_000;
/** Between two tries of one member with one donor: that, then twice as long, and so on. */
const restMs = { first: 60_000, max: 3600_000 } as const;
/** A refill whose executor tells nothing of it has ended with it. */
const unheardMs = 60_000;
const shareMs = 24 * 3600_000;
const sendTimeoutMs = 10_000;
/** After logs went for want of room nothing is fetched for a day. */
const cutMs = 24 * 3600_000;
/** When the backups of the cluster are not held to a rate. */
const defaultBytesPerSec = 32 * 1024 * 1024;

type RefillStatus = NonNullable<NonNullable<Status['archive']>['refill']>;

interface Open extends Pick<Refill, 'ordinal' | 'donor'> {
  readonly id: string;
  heardAt: number;
}

interface Known {
  at: number;
  open: Open | null;
  /** By ordinal. */
  readonly gapSince: Map<number, number>;
  /** By ordinal and donor. */
  readonly rests: Map<string, { readonly until: number; readonly ms: number }>;
}

export interface Refills {
  /** Looks every few seconds; what it begins is not waited for. */
  look(view: ClusterView): Promise<void>;
}

/** One for each cluster. */
export function createRefills(context: Context, share: typeof shareMember = shareMember): Refills {
  const { clock, log } = context;
  const known: Known = { at: Number.NEGATIVE_INFINITY, open: null, gapSince: new Map(), rests: new Map() };

  function rest({ ordinal, donor }: Pick<Refill, 'ordinal' | 'donor'>): void {
    const key = `${ordinal} ${donor}`;
    const ms = Math.min((known.rests.get(key)?.ms ?? restMs.first / 2) * 2, restMs.max);
    known.rests.set(key, { until: clock.now() + ms, ms });
    known.open = null;
  }

  /** True while one runs. */
  async function follow(view: ClusterView): Promise<boolean> {
    const refillOf = (member: MemberView | undefined) => member?.status?.archive?.refill ?? null;
    const running = view.members.find((member) => refillOf(member)?.outcome === 'running');
    if (running) {
      const { commandId: id, donor } = refillOf(running)!;
      known.open = { id, donor, ordinal: running.ordinal, heardAt: clock.now() };
      return true;
    }
    const { open } = known;
    if (!open) return false;
    const ended = refillOf(view.members.find(({ ordinal }) => ordinal === open.ordinal));
    if (ended?.commandId !== open.id) {
      if (clock.now() - open.heardAt > unheardMs) rest(open);
      return known.open !== null;
    }
    rest(open);
    await tell(view, open, ended);
    return false;
  }

  async function tell({ cluster }: ClusterView, { ordinal, donor }: Open, ended: RefillStatus): Promise<void> {
    if (ended.outcome === 'failed') {
      log.warn({ cluster: cluster.name, ordinal, donor, code: ended.code }, ended.message ?? 'a refill failed');
    }
    if (ended.segments === 0) return;
    const message = `${ended.segments} logs were fetched from the archive of member ${donor}`;
    const data = { donor, segments: ended.segments, bytes: ended.doneBytes };
    await emit(context, 'archive.refilled', cluster, message, { ordinal, data });
  }

  function membersOf(view: ClusterView, acknowledged: string): RefillMember[] {
    const present = parseGtidSet(acknowledged);
    // One of a history that a restore left leads to no state of the present one.
    const backups = goodBackupsOf(view).filter(({ gtidSet }) => isGtidSubset(parseGtidSet(gtidSet), present));
    return view.members.map(({ ordinal, status, isConnected }) => {
      const own = backups.filter((backup) => backup.ordinal === ordinal).toSorted((a, b) => a.endedAt - b.endedAt);
      const cutAt = status?.logs?.cutAt ?? null;
      const isCut = cutAt !== null && status!.at - cutAt < cutMs;
      const isIdle = status?.work?.outcome !== 'running';
      return {
        ordinal,
        isPrimary: ordinal === view.cluster.primary,
        isReachable: isConnected && status?.archive != null,
        mayFetch: status?.archive?.refill !== undefined && isIdle && !isCut && (status.logs ?? null) !== null,
        spans: status?.archive?.spans ?? [],
        from: own[0]?.gtidSet ?? null,
      };
    });
  }

  /** Gaps that were there for a while. */
  function findNext(view: ClusterView): Refill | null {
    const primary = primaryOf(view);
    const acknowledged = primary?.isConnected && isRunning(primary) ? (primary.status?.gtidExecuted ?? '') : '';
    if (acknowledged === '') return null;
    const members = membersOf(view, acknowledged);
    for (const member of members) {
      if (findOwnGap(member, acknowledged) === '') known.gapSince.delete(member.ordinal);
      else if (!known.gapSince.has(member.ordinal)) known.gapSince.set(member.ordinal, clock.now());
    }
    return findRefill(members, acknowledged, (ordinal, donor) => {
      const isOld = clock.now() - (known.gapSince.get(ordinal) ?? clock.now()) >= gapAgeMs;
      return isOld && clock.now() >= (known.rests.get(`${ordinal} ${donor}`)?.until ?? 0);
    });
  }

  async function begin(view: ClusterView, refill: Refill, id: string): Promise<void> {
    const { cluster } = view;
    const { launch } = view.members.find(({ ordinal }) => ordinal === refill.ordinal)!;
    const { maxBytesPerSec, archive } = cluster.backupPolicy;
    const rate = maxBytesPerSec ?? defaultBytesPerSec;
    const options = { expiresInMs: shareMs, maxBytesPerSec: rate, closeLog: true };
    const donor = await share(context, cluster.id, refill.donor, options);
    const { gtidSet } = refill;
    const body = { kind: 'refillArchive', donor, gtidSet, shareMax: archive.maxShare } as const;
    await context.executors.send(launch!.taskId, body, { epoch: cluster.epoch, timeoutMs: sendTimeoutMs, id });
    log.info({ cluster: cluster.name, ...refill }, 'a gap in an archive is filled from another one');
  }

  return {
    async look(view) {
      const now = clock.now();
      if (!view.cluster.spec.volumes.backup || view.cluster.epoch === 0 || now - known.at < lookMs) return;
      known.at = now;
      if (await follow(view)) return;
      const next = findNext(view);
      if (!next || !view.members.some(({ ordinal, launch }) => ordinal === next.ordinal && launch)) return;
      const id = `refill.${context.newId()}`;
      known.open = { id, ordinal: next.ordinal, donor: next.donor, heardAt: now };
      // Not waited for: an executor that hangs must not hold up a failover.
      begin(view, next, id).catch((error: unknown) => {
        log.warn({ err: error, cluster: view.cluster.name, ...next }, 'a refill did not begin');
        if (known.open?.id === id) rest(next);
      });
    },
  };
}
