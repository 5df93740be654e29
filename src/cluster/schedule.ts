/**
 * When scheduled backups are due. Rules:
 * - Time is the schedule's time zone's, daylight saving included: 02:30 that does not exist comes an hour later, one
 *   that exists twice comes once (croner's rules; a test holds them).
 * - Each cluster has an offset of its own within the jitter, always the same one.
 * - However many runs were missed, only the last one is due.
 * - Two of a member never overlap, and two members of a cluster never run at once by a schedule.
 */
import { Cron } from 'croner';
import type { BackupPolicy } from './backup-policy.ts';

type Timing = Pick<BackupPolicy, 'schedule' | 'timeZone' | 'jitterSeconds'>;

/** A failed try of a run is repeated so often, and not before this. */
const triesMax = 3;
const retryMs = 15 * 60_000;
/** `replica`: when none is in its place for so long the primary is taken. */
const replicaPatienceMs = 15 * 60_000;
/** Past any date that a schedule could mean. */
const horizonMs = 10 * 366 * 86_400_000;

/** What is wrong with a schedule, in words; null: it is good. */
export function findScheduleFault({ schedule, timeZone }: Omit<Timing, 'jitterSeconds'>, now: number): string | null {
  if (!isTimeZone(timeZone)) return `${timeZone} is no time zone`;
  if (schedule === null) return null;
  if (schedule.trim().split(/\s+/).length !== 5) return 'must be five fields of cron, such as 0 2 * * *';
  try {
    const next = parse(schedule, timeZone).nextRun(new Date(now));
    return next && next.getTime() - now < horizonMs ? null : 'it never comes';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** It runs nothing: it has no function, and starts no timer. */
const parse = (schedule: string, timeZone: string) => new Cron(schedule, { timezone: timeZone, mode: '5-part' });

/** The same for ever for one cluster; spread evenly over the jitter. */
function offsetOf(clusterId: string, jitterSeconds: number): number {
  let hash = 0x811c9dc5;
  for (const character of clusterId) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  return jitterSeconds === 0 ? 0 : (hash % jitterSeconds) * 1000;
}

/** The last run that came by `now` and after `since` (UTC ms); null: none did. */
export function findDueRun(
  policy: Timing,
  { clusterId, since, now }: { readonly clusterId: string; readonly since: number; readonly now: number },
): number | null {
  if (policy.schedule === null) return null;
  const offset = offsetOf(clusterId, policy.jitterSeconds);
  // Times of cron are whole seconds; the reference itself is not among the previous ones.
  const reference = new Date(now - offset + 1000);
  const [last] = parse(policy.schedule, policy.timeZone).previousRuns(1, reference);
  const due = last ? last.getTime() + offset : null;
  return due !== null && due > since && due <= now ? due : null;
}

/** The next run after `now` (UTC ms); null: there is none. */
export function findNextRun(policy: Timing, clusterId: string, now: number): number | null {
  if (policy.schedule === null) return null;
  const offset = offsetOf(clusterId, policy.jitterSeconds);
  const next = parse(policy.schedule, policy.timeZone).nextRun(new Date(now - offset));
  return next ? next.getTime() + offset : null;
}

/** A backup of the run, open or ended. */
export interface RunBackup {
  readonly ordinal: number;
  readonly state: 'open' | 'failed' | 'other';
  readonly code: string | null;
  readonly endedAt: number | null;
}

export interface RunMember {
  readonly ordinal: number;
  readonly isPrimary: boolean;
  /** Runs, in its place, with a backup volume, without other work, without errant transactions. */
  readonly isFit: boolean;
  readonly lagMs: number | null;
}

/** A second try would be refused alike. */
const isFinal = (code: string | null) => code === 'BACKUP_NO_SPACE' || code === 'BACKUP_ENGINE' || code === 'ERRANT';

/** The member whose backup of this run is to begin now; null: none (for now). Replicas first, the least lag first. */
export function chooseForRun(options: {
  readonly members: readonly RunMember[];
  readonly backups: readonly RunBackup[];
  readonly which: BackupPolicy['members'];
  readonly dueAt: number;
  readonly now: number;
}): number | null {
  const { members, backups, which, dueAt, now } = options;
  if (backups.some(({ state }) => state === 'open')) return null;
  const isServed = (ordinal: number) => {
    const own = backups.filter((backup) => backup.ordinal === ordinal);
    if (own.some(({ state, code }) => state === 'other' || isFinal(code))) return true;
    const last = Math.max(...own.map(({ endedAt }) => endedAt ?? 0));
    return own.length >= triesMax || (own.length > 0 && now - last < retryMs);
  };
  const hasReplicas = members.some(({ isPrimary }) => !isPrimary);
  if (which === 'replica' && backups.some(({ state }) => state === 'other')) return null;
  const mayBePrimary = which === 'all' || !hasReplicas || now - dueAt >= replicaPatienceMs;
  const lagOf = ({ lagMs }: RunMember) => lagMs ?? Number.MAX_SAFE_INTEGER;
  const [first] = members
    .filter(({ isFit, isPrimary, ordinal }) => isFit && (mayBePrimary || !isPrimary) && !isServed(ordinal))
    .sort((one, other) => Number(one.isPrimary) - Number(other.isPrimary) || lagOf(one) - lagOf(other));
  return first?.ordinal ?? null;
}
