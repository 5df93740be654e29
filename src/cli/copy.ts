import { createCluster, toCopyBody } from './create.ts';
import { usageError } from './io.ts';
import { type Options, type Verb, waitHelp, waitOptions } from './verb.ts';

export const copy: Verb = {
  name: 'copy',
  summary: 'Make a new cluster from the backups of another one, as it is or as it was at a moment.',
  usage: 'SOURCE NAME [options]',
  wordCount: 2,
  options: {
    at: { type: 'string' },
    gtid: { type: 'string' },
    backup: { type: 'string' },
    'max-rate': { type: 'string' },
    members: { type: 'string' },
    cpus: { type: 'string' },
    mem: { type: 'string' },
    data: { type: 'string' },
    'backup-volume': { type: 'string' },
    durability: { type: 'string' },
    'ack-flush': { type: 'string' },
    spread: { type: 'string' },
    attribute: { type: 'string', multiple: true },
    ...waitOptions,
  },
  help: {
    '--at TIME': 'as it was then: RFC 3339, such as 2026-11-20T21:00:00Z; needs the archive of its members',
    '--gtid SET': 'exactly this set, as `gtidExecuted` shows it; needs the archive of its members',
    '--backup ID': 'from this backup; else from the newest that serves',
    '--max-rate BYTES': 'bytes a second that each donor sends at most',
    '--backup-volume TYPE:MB': 'as `--backup` of `create`; given together with --data',
    '--members, --cpus, --mem, --data, …': 'as for `create`; what is not given is as in SOURCE',
    ...waitHelp,
  },
  examples: [
    'selvedge copy orders orders-test --wait',
    'selvedge copy orders orders-before --at 2026-11-20T21:00:00Z --wait',
    'selvedge copy orders small --members 1 --backup 6a1c…',
  ],
  run: async (context) => {
    const [source, name] = context.words;
    const { options } = context;
    const from = toFrom(source, options);
    return createCluster(context, toCopyBody(options, { name, from, backup: options.text('backup-volume') }));
  },
};

function toFrom(source: string | undefined, options: Options) {
  const [at, gtid, backup] = [options.text('at'), options.text('gtid'), options.text('backup')];
  if (at !== undefined && gtid !== undefined) throw usageError('--at and --gtid exclude each other');
  const maxBytesPerSec = options.number('max-rate');
  return {
    cluster: source,
    ...(at === undefined ? {} : { at: /^\d+$/.test(at) ? Number(at) : at }),
    ...(gtid === undefined ? {} : { gtid }),
    ...(backup === undefined ? {} : { backup }),
    ...(maxBytesPerSec === undefined ? {} : { maxBytesPerSec }),
  };
}
