/** One run of fire: strikes of the seed's, one after another until the time is over, then silence and judgement. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { diagnose } from '../demo/diagnosis.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { clusterName } from '../demo/steps.ts';
import { now } from '../demo/wait.ts';
import { createRandom } from '../simulation/random.ts';
import { type Check, checkAll } from './checks.ts';
import type { Strike } from './strike.ts';
import { drawStrikes } from './strikes.ts';
import { createStage, type Stage, settle, startWorld, type World } from './world.ts';

export interface FireOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** Names of strikes to choose from; all by default. */
  readonly only?: string | undefined;
  /** Data disks of their own, to be frozen and filled; where that is not allowed it is told and left out. */
  readonly withDisks: boolean;
  /** Story and logs, also when all is well. */
  readonly withStory?: boolean;
}

export interface Blow {
  readonly name: string;
  readonly detail: string;
  /** Longest time without an acknowledged row of any one writer. */
  readonly gapMs: number;
  /** How often a writer behind the service port had to try a row again: the one that had to most often. */
  readonly breaks: number;
  /** Until the cluster was whole again. */
  readonly tookMs: number;
  /** null: survived. */
  readonly fault: string | null;
}

export interface FireResult {
  readonly seed: number;
  readonly blows: readonly Blow[];
  readonly checks: readonly Check[];
  readonly isGood: boolean;
}

/** A cooldown that stays lets the old primary come back in its own epoch: that is tried too. */
const keepCooldownChance = 0.15;
/** As in src/controller/member-actors.ts. */
const refusalHoldsMs = 15_000;

/** Leaves nothing running. Logs of a run that failed are kept, and `say` tells where. */
export async function runFire(options: FireOptions): Promise<FireResult> {
  const { seed, say, signal } = options;
  const noDisks = (why: string) => say(`  No disk can be frozen or filled here: ${why}`);
  const stage = await createStage(signal, options.withDisks ? noDisks : null);
  const blows: Blow[] = [];
  let checks: readonly Check[] = [];
  let isGood = false;
  try {
    const world = await startWorld(stage);
    await strikeOn(world, options, blows);
    checks = blows.every(({ fault }) => fault === null) ? await checkAll(world) : [];
    isGood = checks.length > 0 && checks.every(({ fault }) => fault === null);
  } catch (error) {
    for (let each = error; each instanceof Error; each = each.cause) say(`  ${each.message}`);
  } finally {
    if (!isGood || options.withStory) await tellStory(stage, say);
    for (const end of stage.ends.reverse()) await end();
    await stage.plane.destroy((dataDir) => {
      removeRunDirectories(dataDir);
      if (!isGood || options.withStory) keepLogs(dataDir, seed, say);
      stage.disks?.unmount();
    });
  }
  return { seed, blows, checks, isGood };
}

async function strikeOn(world: World, { seconds, seed, say, only }: FireOptions, blows: Blow[]): Promise<void> {
  const random = createRandom(seed);
  const startedAt = now();
  const endsAt = startedAt + seconds * 1000;
  await settle(world);
  for (const strike of drawStrikes(world, random.fork('order'))) {
    if (now() >= endsAt) return;
    if (only !== undefined && !strike.name.includes(only)) continue;
    const blow = await strikeOnce(world, strike, random.fork(`strike ${blows.length}`));
    blows.push(blow);
    const { name, detail, gapMs, tookMs, fault } = blow;
    const at = `${((now() - startedAt) / 1000).toFixed(1)} s`.padStart(8);
    say(`${at}  ${name}: ${detail}; gap ${gapMs} ms, whole after ${tookMs} ms${fault ? `  FAULT: ${fault}` : ''}`);
    if (fault !== null) return;
  }
}

type StrikeRandom = Parameters<Strike['strike']>[1];

async function strikeOnce(world: World, strike: Strike, random: StrikeRandom): Promise<Blow> {
  const { name, changesPrimary } = strike;
  const isCooled = random.chance(keepCooldownChance);
  if (!isCooled) await world.api.releaseCooldown(clusterName);
  const { epoch, cooldownUntil } = await world.api.cluster(clusterName);
  const isHeldBack = cooldownUntil !== null || (await wasRefusedLately(world));
  const startedAt = now();
  let detail = '';
  let fault: string | null = null;
  try {
    detail = await strike.strike(world, random);
    if (cooldownUntil !== null) detail += ', in the cooldown';
    await settle(world);
    detail += await describeChanges(world, startedAt);
    const hasChanged = world.seen.epoch !== epoch;
    if (hasChanged && changesPrimary === 'no') fault = `the primary changed: epoch ${epoch} to ${world.seen.epoch}`;
    if (!hasChanged && changesPrimary === 'yes' && !isHeldBack) fault = 'the primary did not change';
  } catch (error) {
    if (world.signal.aborted) throw error;
    const cause = (error as Error).cause;
    fault = `${(error as Error).message}${cause instanceof Error ? ` (${cause.message})` : ''}`;
  }
  const endedAt = now();
  const gapMs = Math.max(...world.writers.map((writer) => writer.longestGapMs(startedAt, endedAt)));
  return { name, detail, gapMs, breaks: countBreaks(world, startedAt), tookMs: Math.round(endedAt - startedAt), fault };
}

/** A break is what a client sees between two acknowledged rows, however often it tried meanwhile. */
function countBreaks({ writers, endpoints }: World, since: number): number {
  const isMember = ({ host, port }: { host: string; port: number }) =>
    endpoints.all().some((each) => each.host === host && each.port === port);
  const counts = writers.map(({ breaks, acknowledgedAt }) => {
    const broken = breaks.filter(({ at, endpoint }) => at >= since && !isMember(endpoint)).map(({ at }) => at);
    const written = acknowledgedAt.filter((at) => at !== null && at >= since) as number[];
    return broken.filter((at, index) => {
      const before = broken[index - 1];
      return before === undefined || written.some((each) => each > before && each < at);
    }).length;
  });
  return Math.max(0, ...counts);
}

/** What became of the primary meanwhile. */
/** Right after a refusal a primary that ends once more is started again, as in the cooldown. */
async function wasRefusedLately({ api }: World): Promise<boolean> {
  const [newest] = await api.failovers(clusterName);
  return newest?.outcome === 'refused' && now() - (newest.endedAt ?? 0) < refusalHoldsMs;
}

async function describeChanges({ api }: World, since: number): Promise<string> {
  const changes = (await api.failovers(clusterName)).filter((each) => each.startedAt >= since - 1);
  return changes
    .reverse()
    .map(({ kind, outcome, startedAt, endedAt, refusal, steps }) => {
      const last = steps.at(-1)?.name ?? 'begun';
      const end = endedAt === null ? last : `${refusal?.code ?? last} after ${endedAt - startedAt} ms`;
      return ` [${Math.round(startedAt - since)} ms: ${kind} ${outcome}, ${end}]`;
    })
    .join('');
}

async function tellStory({ plane, api }: Stage, say: (text: string) => void): Promise<void> {
  say('\nThe story:');
  const events = await api.events(1000).catch(() => []);
  for (const { at, kind, ordinal, message } of [...events].sort((one, other) => one.seq - other.seq))
    say(`     ${new Date(at).toISOString()}  ${kind}${ordinal === null ? '' : ` (${ordinal})`}: ${message}`);
  await diagnose(plane, api, say);
}

const isLog = (name: string): boolean => /(^|\/)(stdout|stderr|[^/]*\.(log|err|db))$/.test(name);

/** Logs and the store, of everything that ran. */
function keepLogs(dataDir: string, seed: number, say: (text: string) => void): void {
  const target = mkdtempSync(join(tmpdir(), `fire-${seed}-`));
  const files = readdirSync(dataDir, { recursive: true, encoding: 'utf8' }).filter(isLog);
  for (const file of files) {
    mkdirSync(dirname(join(target, file)), { recursive: true });
    cpSync(join(dataDir, file), join(target, relative('.', file)));
  }
  say(`\nLogs are kept in ${target}`);
}
