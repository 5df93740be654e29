/** `selvedge set`: what a cluster promises, and what happens by itself. */
import { clusterView } from '../api/schemas.ts';
import { exitCodes, usageError } from './io.ts';
import { clusterText } from './show.ts';
import { clusterPath, type Options, parseOrdinal, type Verb } from './verb.ts';

export const set: Verb = {
  name: 'set',
  summary: 'Change the durability, what happens by itself, and who becomes the primary.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: {
    durability: { type: 'string' },
    'ack-flush': { type: 'string' },
    automation: { type: 'string' },
    'for-minutes': { type: 'string' },
    'release-cooldown': { type: 'boolean' },
    prefer: { type: 'string', multiple: true },
    never: { type: 'string', multiple: true },
    neutral: { type: 'boolean' },
  },
  help: {
    '--durability D': 'majority, one or async; a lower one frees blocked writes and promises less',
    '--ack-flush os|disk': 'disk: replicas flush before they acknowledge; survives loss of power, 2 to 5 times slower',
    '--automation on|off': 'off: a dead primary is started again, no other one is chosen by itself',
    '--for-minutes N': 'with --automation off: on again after so long',
    '--release-cooldown': 'let the next automatic failover happen at once',
    '--prefer N': 'this member rather than others; may be repeated',
    '--never N': 'never this member; may be repeated',
    '--neutral': 'no preferences any more',
  },
  examples: [
    'selvedge set orders --automation off --for-minutes 60',
    'selvedge set orders --durability async',
    'selvedge set orders --prefer 0 --never 2',
  ],
  run: async ({ client, io, isJson, words, options }) => {
    const body = changes(options, io.clock.now());
    if (Object.keys(body).length === 0) throw usageError('Nothing to change: name at least one option');
    const view = await client.request({ method: 'PATCH', path: clusterPath(words[0]), body, schema: clusterView });
    io.out(isJson ? `${JSON.stringify(view)}\n` : clusterText(view));
    for (const warning of view.warnings) io.err(`Note: ${warning}\n`);
    return exitCodes.done;
  },
};

function changes(options: Options, now: number): Record<string, unknown> {
  const [durability, ackFlush, mode, minutes] = [
    options.text('durability'),
    options.text('ack-flush'),
    options.text('automation'),
    options.number('for-minutes'),
  ];
  if (minutes !== undefined && mode !== 'off') throw usageError('--for-minutes goes with --automation off');
  const liked = [
    ...options.list('prefer').map((ordinal) => [parseOrdinal(ordinal), 'prefer']),
    ...options.list('never').map((ordinal) => [parseOrdinal(ordinal), 'never']),
  ];
  return {
    ...(durability === undefined ? {} : { durability }),
    ...(ackFlush === undefined ? {} : { ackFlush }),
    ...(mode === undefined
      ? {}
      : { automation: { mode, until: minutes === undefined ? null : Math.round(now + minutes * 60_000) } }),
    ...(options.has('release-cooldown') ? { cooldown: null } : {}),
    ...(liked.length > 0 || options.has('neutral') ? { preferences: Object.fromEntries(liked) } : {}),
  };
}
