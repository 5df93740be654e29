/** Verbs that ask for work on a cluster and may wait for it. */
import type { z } from 'zod';
import { failoverView, planView, rebuildView, replacementView } from '../api/schemas.ts';
import { exitCodes, usageError } from './io.ts';
import { failoverText, planText, progressText } from './show.ts';
import { table } from './tables.ts';
import { clusterPath, type Options, parseOrdinal, type Verb, type VerbContext, waitHelp, waitOptions } from './verb.ts';
import { waitUntil } from './wait.ts';

function changePrimary(name: 'failover' | 'switchover', summary: string): Verb {
  return {
    name,
    summary,
    usage: 'NAME --reason TEXT [options]',
    wordCount: 1,
    options: {
      reason: { type: 'string' },
      candidate: { type: 'string' },
      'if-primary': { type: 'string' },
      'if-epoch': { type: 'string' },
      'dry-run': { type: 'boolean' },
      force: { type: 'boolean' },
      ...(name === 'failover'
        ? { 'accept-loss': { type: 'string' as const } }
        : { 'max-pause': { type: 'string' as const } }),
      ...waitOptions,
    },
    help: {
      '--reason TEXT': 'why, for those who read it later (needed)',
      '--candidate N': 'ordinal of the member that is to be the primary; else the best is chosen',
      '--if-primary N': 'refuse when another member is the primary',
      '--if-epoch N': 'refuse when the epoch is another',
      '--dry-run': 'only say what would be done, step by step, or why not; exit code 1 when it would be refused',
      ...(name === 'failover'
        ? {
            '--force': 'also when the primary is alive',
            '--accept-loss STATEMENT':
              'go on with the loss that a refusal or dry run stated; refused if it is another by then',
          }
        : {
            '--max-pause MS':
              'longest time without writes until the new primary is chosen; running writers are ended 500 ms before, and past it everything is taken back (default 5000)',
            '--force': 'also when that ends a transaction that has written for longer than --max-pause',
          }),
      ...waitHelp,
    },
    examples: [
      `selvedge ${name} orders --reason "maintenance of host 3" --wait`,
      `selvedge ${name} orders --candidate 1 --if-primary 0 --reason "drill" --wait`,
    ],
    run: (context) => runChange(name, context),
  };
}

export const failover = changePrimary(
  'failover',
  'Choose another primary because this one is dead or given up. Refused when an acknowledged write could be lost.',
);
export const switchover = changePrimary('switchover', 'Hand over from the living primary to a replica.');

async function runChange(kind: 'failover' | 'switchover', context: VerbContext) {
  const { options, words } = context;
  const reason = options.text('reason');
  if (!reason) throw usageError('--reason is needed');
  const cluster = clusterPath(words[0]);
  const body = { kind, reason, ...preconditions(options) };
  if (options.has('dry-run')) return showPlan(context, `${cluster}/failovers?dryRun=true`, body);
  return runWork(context, {
    start: { path: `${cluster}/failovers`, body },
    look: (id) => `${cluster}/failovers/${id}`,
    schema: failoverView,
    describe: ({ outcome, steps }) => `${kind}: ${outcome}${steps.length > 0 ? `, ${steps.at(-1)?.name}` : ''}`,
    isOpen: ({ outcome }) => outcome === 'open',
    isGood: ({ outcome }) => outcome === 'done',
    text: failoverText,
  });
}

function preconditions(options: Options) {
  const [candidate, ifPrimary] = [options.text('candidate'), options.text('if-primary')];
  const ifEpoch = options.number('if-epoch');
  const statement = options.text('accept-loss');
  const maxPauseMs = options.number('max-pause');
  return {
    ...(candidate === undefined ? {} : { candidate: parseOrdinal(candidate) }),
    ...(ifPrimary === undefined ? {} : { ifPrimary: parseOrdinal(ifPrimary) }),
    ...(ifEpoch === undefined ? {} : { ifEpoch }),
    ...(options.has('force') ? { force: true } : {}),
    ...(statement === undefined ? {} : { acceptDataLoss: { statement } }),
    ...(maxPauseMs === undefined ? {} : { maxPauseMs }),
  };
}

async function showPlan({ client, io, isJson }: VerbContext, path: string, body: unknown) {
  const plan = await client.request({ method: 'POST', path, body, schema: planView });
  io.out(isJson ? `${JSON.stringify(plan)}\n` : planText(plan));
  return plan.refusal === null ? exitCodes.done : exitCodes.refused;
}

export const replaceVolume: Verb = {
  name: 'replace-volume',
  summary: "Say that a replica's backup volume is gone for good: another one is made on its agent and filled.",
  usage: 'NAME ORDINAL [options]',
  wordCount: 2,
  options: { volume: { type: 'string' }, reason: { type: 'string' } },
  help: {
    '--volume backup': 'which one; a data volume is filled anew by rebuild',
    '--reason TEXT': 'why, for those who read it later',
  },
  examples: ['selvedge replace-volume orders 2 --volume backup --reason "the disk is broken"'],
  run: async ({ words, options, client, io, isJson }) => {
    const path = `${clusterPath(words[0])}/members/${parseOrdinal(words[1])}/replace-volume`;
    const reason = options.text('reason');
    const body = { volume: options.text('volume') ?? 'backup', ...(reason === undefined ? {} : { reason }) };
    const view = await client.request({ method: 'POST', path, body, schema: replacementView });
    const text = `member ${view.member} is launched anew with another backup volume: selvedge status ${view.cluster}\n`;
    io.out(isJson ? `${JSON.stringify(view)}\n` : text);
    return exitCodes.done;
  },
};

export const rebuild: Verb = {
  name: 'rebuild',
  summary: "Fill a replica's data volume anew, from its own backup volume or from another member.",
  usage: 'NAME ORDINAL [options]',
  wordCount: 2,
  options: { reason: { type: 'string' }, force: { type: 'boolean' }, ...waitOptions },
  help: {
    '--reason TEXT': 'why, for those who read it later',
    '--force': 'also when what only this member has cannot be saved as a tail before: that is then gone',
    ...waitHelp,
  },
  examples: ['selvedge rebuild orders 2 --reason "disk was changed" --wait'],
  run: (context) => {
    const cluster = clusterPath(context.words[0]);
    const ordinal = parseOrdinal(context.words[1]);
    const reason = context.options.text('reason');
    return runWork(context, {
      start: {
        path: `${cluster}/members/${ordinal}/rebuild`,
        body: { ...(reason === undefined ? {} : { reason }), ...(context.options.has('force') ? { force: true } : {}) },
      },
      look: (id) => `${cluster}/rebuilds/${id}`,
      schema: rebuildView,
      describe: ({ state, way, progress }) =>
        `rebuild of member ${ordinal}: ${state}${way ? ` by ${way}` : ''}${progressText(progress)}`,
      isOpen: ({ state }) => state === 'open',
      isGood: ({ state }) => state === 'done',
      text: (view) =>
        table(
          ['ID', 'MEMBER', 'STATE', 'WAY', 'ATTEMPTS', 'WHY'],
          [
            [
              view.id,
              view.member,
              view.state,
              view.way,
              view.attempts,
              view.code ? `${view.code}: ${view.message}` : null,
            ],
          ],
        ),
    });
  },
};

interface Work<S extends z.ZodType<{ readonly id: string }>> {
  readonly start: { readonly path: string; readonly body: unknown };
  readonly look: (id: string) => string;
  readonly schema: S;
  readonly describe: (view: z.output<S>) => string;
  readonly isOpen: (view: z.output<S>) => boolean;
  readonly isGood: (view: z.output<S>) => boolean;
  readonly text: (view: z.output<S>) => string;
}

/** Asks for the work, and waits for it when told to. */
export async function runWork<S extends z.ZodType<{ readonly id: string }>>(context: VerbContext, work: Work<S>) {
  const { client, io, isJson, options } = context;
  const timeoutMs = options.timeoutMs();
  const { schema } = work;
  const show = (view: z.output<S>) => io.out(isJson ? `${JSON.stringify(view)}\n` : work.text(view));
  const started = await client.request({ method: 'POST', ...work.start, schema });
  if (!options.has('wait')) {
    show(started);
    return exitCodes.done;
  }
  const path = work.look(started.id);
  const { seen, error } = await waitUntil<z.output<S>>({
    io,
    timeoutMs,
    look: () => client.request({ method: 'GET', path, schema }),
    describe: work.describe,
    isDone: (view) => !work.isOpen(view),
  });
  const last = seen ?? started;
  show(last);
  if (error) throw error;
  return work.isGood(last) ? exitCodes.done : exitCodes.refused;
}
