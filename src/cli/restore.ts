import type { z } from 'zod';
import { restorePlanView, restoreView } from '../api/restore-schemas.ts';
import { exitCodes, usageError } from './io.ts';
import { progressText } from './show.ts';
import { clean, time } from './tables.ts';
import { clusterPath, type Options, type Verb, type VerbContext, waitHelp, waitOptions } from './verb.ts';
import { runWork } from './work.ts';

export const restore: Verb = {
  name: 'restore',
  summary: 'Lead a cluster back, in place, to a state of its past. What was committed later is left behind.',
  usage: 'NAME [--backup ID] [--at TIME | --gtid SET] --confirm NAME [options]',
  wordCount: 1,
  options: {
    backup: { type: 'string' },
    at: { type: 'string' },
    gtid: { type: 'string' },
    confirm: { type: 'string' },
    'max-rate': { type: 'string' },
    'without-safety-backup': { type: 'boolean' },
    'dry-run': { type: 'boolean' },
    ...waitOptions,
  },
  help: {
    '--at TIME': 'as it was then: RFC 3339, such as 2026-11-20T21:00:00Z',
    '--gtid SET': 'exactly this set, as `gtidExecuted` shows it',
    '--backup ID': 'from this backup, and without --at and --gtid: as it is. Also of a history that was left before',
    '--confirm NAME': 'the name of the cluster once more (needed, but for --dry-run)',
    '--dry-run': 'only say which backup and logs, what would be lost, about how long; exit code 1 when it is refused',
    '--without-safety-backup': 'go on when the safety backup cannot be made: what is left behind may then be gone',
    '--max-rate BYTES': 'bytes a second that each donor sends at most',
    ...waitHelp,
  },
  examples: [
    'selvedge restore orders --at 2026-11-20T21:00:00Z --dry-run',
    'selvedge restore orders --at 2026-11-20T21:00:00Z --confirm orders --wait',
    'selvedge restore orders --backup 6a1c… --confirm orders --wait',
  ],
  run: (context) => {
    const { words, options } = context;
    const cluster = clusterPath(words[0]);
    const body = toBody(options);
    if (options.has('dry-run')) return showPlan(context, `${cluster}/restore?dryRun=true`, body);
    if (options.text('confirm') === undefined)
      throw usageError(`--confirm ${words[0]} is needed; look at --dry-run first`);
    return runWork(context, {
      start: { path: `${cluster}/restore`, body },
      look: (id) => `${cluster}/restores/${id}`,
      schema: restoreView,
      describe: describeRestore,
      isOpen: ({ state }) => state === 'open',
      isGood: ({ state }) => state === 'done',
      text: restoreText,
    });
  },
};

function toBody(options: Options) {
  const [backup, at, gtid, confirm] = ['backup', 'at', 'gtid', 'confirm'].map((name) => options.text(name));
  if (at !== undefined && gtid !== undefined) throw usageError('--at and --gtid exclude each other');
  if (at === undefined && gtid === undefined && backup === undefined)
    throw usageError('--at, --gtid or --backup says what to go back to');
  const maxBytesPerSec = options.number('max-rate');
  return {
    ...(backup === undefined ? {} : { backup }),
    ...(at === undefined ? {} : { at: /^\d+$/.test(at) ? Number(at) : at }),
    ...(gtid === undefined ? {} : { gtid }),
    ...(confirm === undefined ? {} : { confirm }),
    ...(maxBytesPerSec === undefined ? {} : { maxBytesPerSec }),
    ...(options.has('without-safety-backup') ? { withoutSafetyBackup: true } : {}),
  };
}

type View = z.output<typeof restoreView>;

function describeRestore({ state, steps, progress, code, message }: View): string {
  const step = steps.at(-1)?.name ?? '';
  return `restore: ${state}, ${step}${progressText(progress)}${code === null ? '' : `: ${message} (${code})`}`;
}

function restoreText(view: View): string {
  const lines = [
    `${view.cluster}: restore ${view.id} is ${view.state}`,
    `  from     backup ${view.backup} of member ${view.holder}, ${targetText(view.until)}, into member ${view.member}`,
    `  safety   ${view.safetyBackup === null ? 'no backup yet' : `backup ${view.safetyBackup}`}`,
    `  left     ${view.lost === null ? 'not known yet' : view.lost || 'nothing'}`,
    ...(view.code === null ? [] : [`  why      ${view.message} (${view.code})`]),
    ...view.steps.map(({ name, at, detail }) => `  ${time(at)}  ${name}${detail ? `: ${detail}` : ''}`),
  ];
  return lines.map((line) => `${clean(line)}\n`).join('');
}

function targetText(until: View['until']): string {
  if (until.kind === 'backup') return 'as it is';
  return until.kind === 'at' ? `as of ${time(until.atMs)}` : `up to ${until.gtidSet}`;
}

async function showPlan({ client, io, isJson }: VerbContext, path: string, body: object) {
  const plan = await client.request({ method: 'POST', path, body, schema: restorePlanView });
  if (isJson) {
    io.out(`${JSON.stringify(plan)}\n`);
    return exitCodes.done;
  }
  const lines = [
    `backup ${plan.backup} of member ${plan.holder}, ${targetText(plan.until)}, into member ${plan.member}, the new primary`,
    ...plan.archives.map(({ member, gtidSet }) => `logs of member ${member}: ${gtidSet}`),
    `about ${Math.ceil(plan.estimateMs / 1000)} s without writes and until all serve, besides the safety backup`,
    `${plan.isLostExact ? 'left behind' : 'left behind, of this what was committed later'}: ${plan.lost || 'nothing'}`,
  ];
  io.out(lines.map((line) => `${clean(line)}\n`).join(''));
  return exitCodes.done;
}
