/** Verbs for backups: make, list, remove, verify, take away; and the policy by which they are made and kept. */
import type { z } from 'zod';
import { type PolicyView, policyView, verificationView } from '../api/backup-schemas.ts';
import { backupList, backupView } from '../api/schemas.ts';
import { exitCodes, usageError } from './io.ts';
import { saveDownload } from './save-download.ts';
import { progressText } from './show.ts';
import { bytes, clean, table, time } from './tables.ts';
import { clusterPath, type Options, parseOrdinal, type Verb, type VerbContext, waitHelp, waitOptions } from './verb.ts';
import { runWork } from './work.ts';

export const backup: Verb = {
  name: 'backup',
  summary: 'Back one member up onto its own backup volume.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: { member: { type: 'string' }, ...waitOptions },
  help: { '--member N': 'ordinal; else a running replica with the least lag', ...waitHelp },
  examples: ['selvedge backup orders --wait', 'selvedge backup orders --member 2'],
  run: (context) => {
    const cluster = clusterPath(context.words[0]);
    const member = context.options.text('member');
    return runWork(context, {
      start: { path: `${cluster}/backups`, body: member === undefined ? {} : { member: parseOrdinal(member) } },
      look: (id) => `${cluster}/backups/${id}`,
      schema: backupView,
      describe: ({ state, member: ordinal, progress: seen, code, message }) =>
        `backup of member ${ordinal}: ${state}${progressText(seen)}${whyText(code, message)}`,
      isOpen: ({ state }) => state === 'open',
      isGood: ({ state }) => state === 'complete',
      text: (view) => backupsText([view]),
    });
  },
};

export const backups: Verb = {
  name: 'backups',
  summary: 'List the backups of a cluster, newest first; or remove one.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: { all: { type: 'boolean' }, remove: { type: 'string' }, force: { type: 'boolean' } },
  help: {
    '--all': 'with those that failed or were removed',
    '--remove ID': 'take this one off its volume; the last good one of a member only with --force',
    '--force': 'with --remove: whichever it is',
  },
  examples: ['selvedge backups orders', 'selvedge backups orders --remove 0b6e…'],
  run: async (context) => {
    const { client, io, isJson, words, options } = context;
    const path = `${clusterPath(words[0])}/backups`;
    const id = options.text('remove');
    if (options.has('force') && id === undefined) throw usageError('--force goes with --remove');
    if (id !== undefined) {
      const query = options.has('force') ? '?force=true' : '';
      const answer = await client.request({
        method: 'DELETE',
        path: `${path}/${idOf(id)}${query}`,
        schema: backupView,
      });
      io.out(isJson ? `${JSON.stringify(answer)}\n` : backupsText([answer]));
      return exitCodes.done;
    }
    const answer = await client.request({ method: 'GET', path, schema: backupList });
    const isShown = ({ state }: BackupView) => options.has('all') || (state !== 'removed' && state !== 'failed');
    const shown = answer.backups.filter((view) => isJson || isShown(view));
    io.out(isJson ? `${JSON.stringify(answer)}\n` : backupsText(shown));
    const hidden = answer.backups.length - shown.length;
    if (hidden > 0) io.err(`${hidden} more failed or were removed: --all shows them.\n`);
    return exitCodes.done;
  },
};

type BackupView = z.output<typeof backupView>;

/** An id of a row; anything else would become another path. */
function idOf(text: string | undefined): string {
  if (!text || !/^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/.test(text)) throw usageError(`${text ?? ''} is no id of a backup`);
  return text;
}

function backupsText(views: readonly BackupView[]): string {
  return table(
    ['ID', 'MEMBER', 'STATE', 'STARTED', 'ENDED', 'SIZE', 'GTIDS', 'VERIFIED', 'WHY'],
    views.map((view) => [
      view.id,
      view.member,
      view.isBad ? 'bad' : view.state,
      time(view.startedAt),
      time(view.endedAt),
      bytes(view.bytes),
      view.gtidSet,
      time(view.verifiedAt),
      view.badReason ?? (view.code ? `${view.code}: ${view.message}` : view.removalReason),
    ]),
  );
}

const whyText = (code: string | null, message: string | null) => (code === null ? '' : `: ${message} (${code})`);

export const verify: Verb = {
  name: 'verify',
  summary: 'Compare, start and read a backup, without changing it.',
  usage: 'NAME BACKUP-ID [options]',
  wordCount: 2,
  options: { ...waitOptions },
  help: { ...waitHelp },
  examples: ['selvedge verify orders 0b6e… --wait'],
  run: (context) => {
    const cluster = clusterPath(context.words[0]);
    const id = idOf(context.words[1]);
    return runWork(context, {
      start: { path: `${cluster}/backups/${id}/verify`, body: undefined },
      look: (verification) => `${cluster}/verifications/${verification}`,
      schema: verificationView,
      describe: ({ state, progress: seen, code, message }) =>
        `verification: ${state}${progressText(seen)}${whyText(code, message)}`,
      isOpen: ({ state }) => state === 'open',
      isGood: ({ state }) => state === 'done',
      text: (view) =>
        table(
          ['BACKUP', 'MEMBER', 'STATE', 'STARTED', 'ENDED', 'WHY'],
          [
            [
              view.backup,
              view.member,
              view.state,
              time(view.startedAt),
              time(view.endedAt),
              view.code ? `${view.code}: ${view.message}` : null,
            ],
          ],
        ),
    });
  },
};

export const download: Verb = {
  name: 'download',
  summary: 'Take a backup away as a tar archive, with its checksums. Plain MySQL starts on it: docs/operations.md.',
  usage: 'NAME BACKUP-ID --output FILE [--packed]',
  wordCount: 2,
  options: { output: { type: 'string' }, packed: { type: 'boolean' } },
  help: {
    '--output FILE': 'where to; it has this name when it is whole (needed)',
    '--packed': 'a packed or encrypted one as it is stored; selvedge unpack makes it plain',
  },
  examples: ['selvedge download orders 0b6e… --output orders.tar'],
  run: async ({ client, io, isJson, words, options }) => {
    const output = options.text('output');
    if (!output) throw usageError('--output is needed');
    const path = `${clusterPath(words[0])}/backups/${idOf(words[1])}/download${options.has('packed') ? '?packed=true' : ''}`;
    const done = await saveDownload(client, path, output);
    io.out(isJson ? `${JSON.stringify({ output, bytes: done })}\n` : `${clean(output)}: ${bytes(done)}\n`);
    return exitCodes.done;
  },
};

export const backupPolicy: Verb = {
  name: 'backup-policy',
  summary: 'Show when a cluster is backed up and what is kept; with options: change it.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: {
    schedule: { type: 'string' },
    'time-zone': { type: 'string' },
    jitter: { type: 'string' },
    members: { type: 'string' },
    'keep-count': { type: 'string' },
    'keep-days': { type: 'string' },
    'max-mb-per-second': { type: 'string' },
    compress: { type: 'string' },
    encrypt: { type: 'string' },
    'verify-hours': { type: 'string' },
    'archive-hours': { type: 'string' },
    'archive-share': { type: 'string' },
  },
  help: {
    '--schedule CRON': "five fields, such as '0 2 * * *'; none: only by hand",
    '--time-zone NAME': 'in which the schedule is read, such as Europe/Berlin',
    '--jitter SECONDS': 'each cluster runs so much later at most, always alike',
    '--members all|replica': 'every member onto its own volume, or one replica',
    '--keep-count N': 'so many of the newest good ones of a member always stay',
    '--keep-days N': 'the others stay so long, unless a new one needs their room',
    '--max-mb-per-second N': 'of reading; none: as fast as it can',
    '--compress none|zstd': 'how new ones are packed; those that are there stay as they are',
    '--encrypt none|aes-256-gcm': 'whether new ones are sealed with the key of the cluster',
    '--verify-hours N': 'each backup is started and read again after so long',
    '--archive-hours N': 'binary logs are kept so long',
    '--archive-share PERCENT': 'of the backup volume, for binary logs at most',
  },
  examples: [
    'selvedge backup-policy orders',
    "selvedge backup-policy orders --schedule '30 1 * * *' --time-zone Europe/Berlin --keep-count 3",
    'selvedge backup-policy orders --schedule none',
  ],
  run: changePolicy,
};

async function changePolicy({ client, io, isJson, words, options }: VerbContext) {
  const path = `${clusterPath(words[0])}/backup-policy`;
  const body = policyChanges(options);
  const isChange = Object.keys(body).length > 0;
  const view = await client.request(
    isChange ? { method: 'PUT', path, body, schema: policyView } : { method: 'GET', path, schema: policyView },
  );
  io.out(isJson ? `${JSON.stringify(view)}\n` : policyText(view));
  return exitCodes.done;
}

function policyChanges(options: Options): Record<string, unknown> {
  const [schedule, rate, members] = [
    options.text('schedule'),
    options.text('max-mb-per-second'),
    options.text('members'),
  ];
  const numbers = {
    jitterSeconds: options.number('jitter'),
    keepCount: options.number('keep-count'),
    keepDays: options.number('keep-days'),
    verifyEveryHours: options.number('verify-hours'),
  };
  const share = options.number('archive-share');
  const archive = {
    keepHours: options.number('archive-hours'),
    maxShare: share === undefined ? undefined : share / 100,
  };
  const given = (part: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(part).filter(([, value]) => value !== undefined));
  return {
    ...given({
      timeZone: options.text('time-zone'),
      compress: options.text('compress'),
      encrypt: options.text('encrypt'),
      members,
      ...numbers,
    }),
    ...(schedule === undefined ? {} : { schedule: schedule === 'none' ? null : schedule }),
    ...(rate === undefined ? {} : { maxBytesPerSec: rate === 'none' ? null : toBytes(options) }),
    ...(Object.keys(given(archive)).length > 0 ? { archive: given(archive) } : {}),
  };
}

const toBytes = (options: Options) => Math.round((options.number('max-mb-per-second') ?? 0) * 1024 * 1024);

function policyText(view: PolicyView): string {
  const rate = view.maxBytesPerSec === null ? 'unbounded' : `${bytes(view.maxBytesPerSec)} a second`;
  const lines = [
    ['schedule', `${view.schedule ?? 'none'} (${view.timeZone})${view.isDefault ? ', the default' : ''}`],
    ['next run', time(view.nextAt)],
    ['jitter', `${view.jitterSeconds} s`],
    ['members', view.members],
    ['kept', `the newest ${view.keepCount}; others for ${view.keepDays} days while there is room`],
    ['rate', rate],
    ['compression', view.compress],
    ['encryption', view.encrypt],
    ['verified', `every ${view.verifyEveryHours} hours`],
    [
      'binary logs',
      `${view.archive.keepHours} hours, at most ${Math.round(view.archive.maxShare * 100)} % of the volume`,
    ],
  ];
  return table(['POLICY', clean(view.cluster)], lines);
}
