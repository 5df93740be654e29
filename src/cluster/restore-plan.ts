/**
 * How a cluster could be led back in place: which backup, whose archived logs, into which member, and what would be left
 * behind. Told before anything is touched; the executor that fills the member looks again, and exactly.
 */
import { compactGtidSet, countGtids, isGtidSubset, parseGtidSet, subtractGtidSets } from './gtid-set.ts';
import { isNever } from './preferences.ts';
import { defaultRates } from './rebuild-way.ts';
import { type BackupOption, chooseBackup, type LogOption, planLogs, type Until } from './recovery.ts';
import type { Preferences } from './types.ts';
import { readSet } from './voters.ts';

/** An unbroken run of archived logs of one member. */
export interface SpanOption {
  readonly ordinal: number;
  readonly serverUuid: string;
  readonly fromGtids: string;
  readonly gtidSet: string;
  readonly lastAt: number | null;
}

export interface RestoreFacts {
  readonly backups: readonly BackupOption[];
  /** What the cluster has acknowledged now; then the histories that it left in earlier restores, newest first. */
  readonly histories: readonly string[];
  readonly spans: readonly SpanOption[];
  readonly primary: number;
  readonly members: number;
  readonly preferences: Preferences;
  /** UTC milliseconds. */
  readonly now: number;
}

type RefusalCode = Extract<ReturnType<typeof chooseBackup>, { kind: 'refused' }>['code'] | 'TARGET_NOT_REACHED';

export type RestorePlan =
  | {
      readonly kind: 'planned';
      readonly backup: BackupOption;
      /** The history that it leads back to: nothing else gets in. */
      readonly within: string;
      /** Who is filled and becomes the primary. */
      readonly ordinal: number;
      readonly spans: readonly SpanOption[];
      /** What would be left behind; of a time: at most this, as its set is known only when logs are read. */
      readonly lost: string;
      readonly isLostExact: boolean;
      readonly estimateMs: number;
    }
  | { readonly kind: 'refused'; readonly code: RefusalCode; readonly message: string; readonly missing?: string };

/** A commit of a moment ago is not archived yet, or not told. */
const settleMs = 15_000;
/** Safety backup not counted: ending and starting mysqld, joining. */
const fixedMs = 20_000;

/** `backupId` may be of a history that was left; without it only the present one is looked at. */
export function planRestore(
  facts: RestoreFacts,
  wanted: { readonly until: Until; readonly backupId: string | undefined },
): RestorePlan {
  const { until, backupId } = wanted;
  const histories = backupId === undefined ? facts.histories.slice(0, 1) : facts.histories;
  let refusal: RestorePlan | null = null;
  for (const within of histories) {
    const plan = planWithin(facts, { until, backupId, within });
    if (plan.kind === 'planned') return plan;
    refusal ??= plan;
  }
  return refusal ?? { kind: 'refused', code: 'NO_BACKUP', message: 'what was acknowledged is not known' };
}

function planWithin(
  facts: RestoreFacts,
  {
    until,
    backupId,
    within,
  }: { readonly until: Until; readonly backupId: string | undefined; readonly within: string },
): RestorePlan {
  const choice = chooseBackup(facts.backups, { until, within, backupId });
  if (choice.kind === 'refused') return choice;
  const { backup } = choice;
  const acknowledged = parseGtidSet(within);
  if (until.kind === 'gtid' && !isGtidSubset(parseGtidSet(until.gtidSet), acknowledged)) {
    const missing = compactGtidSet(subtractGtidSets(parseGtidSet(until.gtidSet), acknowledged));
    return notReached(`the cluster has not acknowledged ${missing}`, missing);
  }
  const target = until.kind === 'backup' ? backup.gtidSet : until.kind === 'gtid' ? until.gtidSet : within;
  const logs = facts.spans.map((span) => ({ ...span, name: '', bytes: 0, previousGtids: span.fromGtids }));
  const { logs: chosen, missing } = planLogs<LogOption & SpanOption>(logs, {
    executed: backup.gtidSet,
    wanted: target,
  });
  if (missing !== '' && !mayBeReached(until, chosen, facts.now)) {
    return notReached(`no archive holds what comes next: ${missing.slice(0, 500)}`, missing);
  }
  const kept = until.kind === 'gtid' ? until.gtidSet : backup.gtidSet;
  const toApply = Number(countGtids(subtractGtidSets(parseGtidSet(target), parseGtidSet(backup.gtidSet))));
  const { diskBytes, networkBytes, applied } = defaultRates;
  const cloneMs = ((facts.members - 1) * 1000 * backup.bytes) / networkBytes;
  return {
    kind: 'planned',
    backup,
    within,
    ordinal: chooseMember(facts, backup),
    spans: chosen.map(({ ordinal, serverUuid, fromGtids, gtidSet, lastAt }) => ({
      ordinal,
      serverUuid,
      fromGtids,
      gtidSet,
      lastAt,
    })),
    lost: compactGtidSet(subtractGtidSets(parseGtidSet(facts.histories[0]!), parseGtidSet(kept))),
    isLostExact: until.kind !== 'at',
    estimateMs: Math.round(fixedMs + (1000 * backup.bytes) / diskBytes + (1000 * toApply) / applied + cloneMs),
  };
}

/** A hole after the moment does not matter, nor what is archived within seconds. */
function mayBeReached(until: Until, spans: readonly SpanOption[], now: number): boolean {
  if (until.kind !== 'at') return false;
  const reachedAt = Math.max(0, ...spans.map(({ lastAt }) => lastAt ?? 0));
  return reachedAt >= until.atMs || now - until.atMs < settleMs;
}

/** Who holds the backup has nothing to fetch. */
function chooseMember({ primary, preferences }: RestoreFacts, { ordinal }: BackupOption): number {
  return isNever(preferences, ordinal) && !isNever(preferences, primary) ? primary : ordinal;
}

function notReached(message: string, missing: string): RestorePlan {
  return { kind: 'refused', code: 'TARGET_NOT_REACHED', message, missing };
}

/** What was acknowledged and is not in the restored state; '' when nothing is, or a set cannot be read. */
export function lostOf(held: string, restored: string): string {
  const [all, kept] = [readSet(held), readSet(restored)];
  return all && kept ? compactGtidSet(subtractGtidSets(all, kept)) : '';
}
