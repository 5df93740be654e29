/**
 * Damage of the data while mysqld runs on them. Rules:
 * - Proof is a code in mysqld's error log (mysqld-log.ts), or a file that its dictionary names and that is missing.
 * - A replica is ended at once and fails with DATA_DIR_DAMAGED: the controller fills it anew. A primary goes on, as what
 *   it has open may be the last of its kind, and says so: another member takes over first, if one can.
 * - Data that mysqld has ended on are not started again, over restarts of this process too: the state file names their
 *   incarnation. Missing files are looked for at each start instead: somebody may have put them back.
 */
import { Refusal } from '../errors.ts';
import { findMissingFiles } from '../mysql/tablespace-files.ts';
import { openSession, type RunningInstance } from './instance.ts';
import { type MemberContext, type Reason, setPhase } from './member-context.ts';
import { findDamage, lookAtLog } from './mysqld-log.ts';

type EndDamaged = (instance: RunningInstance, damage: Reason) => Promise<void>;

const LOG_EVERY_MS = 1_000;
const FILES_EVERY_MS = 30_000;
/** Asking for the files of very many tables is not free. */
const FILES_SHARE = 0.01;
const END_LOOK_MS = 2_000;
/** So many names in a message; the rest is counted. */
const NAMES_MAX = 5;

const damagedReason = (message: string): Reason => ({ code: 'DATA_DIR_DAMAGED', message });

/** Why mysqld must not be started on what the data volume holds; null: nothing is known. */
export function damageOf({ state, marker }: MemberContext): Reason | null {
  const { damaged } = state.get();
  return damaged && damaged.incarnation === marker?.incarnation ? damagedReason(damaged.message) : null;
}

/** Throws DATA_DIR_DAMAGED when mysqld has ended on these data before. Waits until that is known. */
export async function requireUndamaged(context: MemberContext): Promise<void> {
  await context.endLook;
  const damage = damageOf(context);
  if (damage) throw new Refusal('DATA_DIR_DAMAGED', damage.message);
}

/** Throws DATA_DIR_DAMAGED when files of tables are missing: mysqld starts without them, and only warns. */
export async function requireAllFiles(context: MemberContext, instance: RunningInstance): Promise<void> {
  const missing = await findMissingFiles(instance.admin, context.paths.dataDir, context.clock);
  if (missing.length > 0) throw new Refusal('DATA_DIR_DAMAGED', describeMissing(missing));
}

function describeMissing(missing: readonly string[]): string {
  const more = missing.length > NAMES_MAX ? ` and ${missing.length - NAMES_MAX} more` : '';
  return `files of the data directory are missing: ${missing.slice(0, NAMES_MAX).join(', ')}${more}`;
}

/**
 * Watches an instance until it is not the member's any more. `end` is called with the damage of one that takes no
 * writes, in the order of commands, until it has ended it.
 */
export function watchData(context: MemberContext, instance: RunningInstance, end: EndDamaged): void {
  const { clock, log, paths } = context;
  let { logFrom } = instance;
  let filesAt = clock.now() + FILES_EVERY_MS;
  const look = async (): Promise<string | null> => {
    const { damage, hasHint, end } = await lookAtLog(paths.log, logFrom);
    logFrom = end;
    if (damage !== null || (!hasHint && clock.now() < filesAt)) return damage;
    const began = clock.now();
    const missing = await askForMissing(context);
    filesAt = clock.now() + Math.max(FILES_EVERY_MS, (clock.now() - began) / FILES_SHARE);
    return missing.length > 0 ? describeMissing(missing) : null;
  };
  const next = async () => {
    if (context.instance !== instance) return;
    try {
      const found = context.liveDamage ? null : await look();
      if (context.instance !== instance) return;
      if (found !== null) {
        context.liveDamage = damagedReason(found);
        log.error({ damage: found }, 'the data are damaged');
      }
      if (context.liveDamage) await tell(context, instance, end);
    } catch (error) {
      log.warn({ err: error }, 'the data cannot be looked after');
    }
    clock.setTimeout(() => void next(), LOG_EVERY_MS);
  };
  clock.setTimeout(() => void next(), LOG_EVERY_MS);
}

async function askForMissing({ clock, paths }: MemberContext): Promise<string[]> {
  const session = await openSession({ socketPath: paths.socket, clock });
  try {
    return await findMissingFiles(session, paths.dataDir, clock);
  } finally {
    await session.close();
  }
}

async function tell(context: MemberContext, instance: RunningInstance, end: EndDamaged): Promise<void> {
  const damage = context.liveDamage;
  if (!damage || context.phase !== 'running') return;
  const isReplica = () => context.promotedEpoch === null && !context.state.get().wasWritable;
  if (context.reason?.code !== damage.code && !isReplica()) {
    setPhase(context, 'running', damage);
    context.wakeScheduler();
  }
  if (!isReplica()) return;
  await context.runExclusive(async () => {
    if (context.instance === instance && context.phase === 'running' && isReplica()) await end(instance, damage);
  });
}

/**
 * Called when mysqld ended by itself: what its log says about that is known when `context.endLook` ends. Damage is
 * stored and told; whoever starts mysqld waits for it (requireUndamaged).
 */
export function beginEndLook(context: MemberContext, { logFrom }: RunningInstance): void {
  const { clock, paths } = context;
  const patience = new AbortController();
  const late = new Promise<null>((resolve) => patience.signal.addEventListener('abort', () => resolve(null)));
  const timer = clock.setTimeout(() => patience.abort(), END_LOOK_MS);
  context.endLook = Promise.race([findDamage(paths.log, logFrom, patience.signal), late]).then(async (damage) => {
    clock.clearTimeout(timer);
    if (damage !== null) await keepDamage(context, `mysqld ended on it: ${damage}`);
  });
}

async function keepDamage(context: MemberContext, message: string): Promise<void> {
  const { marker, log } = context;
  if (!marker) return;
  log.error({ damage: message }, 'the data are damaged');
  if (!context.instance && (context.phase === 'held' || context.phase === 'starting')) {
    setPhase(context, 'failed', damagedReason(message));
    context.wakeScheduler();
  }
  try {
    await context.state.update({ damaged: { incarnation: marker.incarnation, message } });
  } catch (error) {
    log.error({ err: error }, 'cannot store that the data are damaged');
  }
}
