import type { z } from 'zod';
import { clusterView, createdView, dryRunView } from '../api/schemas.ts';
import { exitCodes, usageError } from './io.ts';
import { clusterText, stateLine } from './show.ts';
import { clean, table } from './tables.ts';
import { clusterPath, type Options, type Verb, type VerbContext, waitHelp, waitOptions } from './verb.ts';
import { waitUntil } from './wait.ts';

export const create: Verb = {
  name: 'create',
  summary: 'Ask for a cluster. Prints the credentials of its account: they are told once.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: {
    members: { type: 'string' },
    cpus: { type: 'string' },
    mem: { type: 'string' },
    data: { type: 'string' },
    backup: { type: 'string' },
    durability: { type: 'string' },
    'ack-flush': { type: 'string' },
    spread: { type: 'string' },
    attribute: { type: 'string', multiple: true },
    from: { type: 'string' },
    'dry-run': { type: 'boolean' },
    ...waitOptions,
  },
  help: {
    '--members N': 'default 3',
    '--cpus N': 'of each member (default 1)',
    '--mem MB': 'of each member (default 1024); 2G is understood',
    '--data TYPE:MB': 'data volume: root, path or mount, and its size (default root:2048)',
    '--backup TYPE:MB': "backup volume, or 'none' (default root:4096)",
    '--durability KIND': 'majority, one or async (default majority from 3 members on)',
    '--ack-flush KIND': 'os (default) or disk: replicas flush before they acknowledge, 2 to 5 times slower',
    '--spread KIND': 'agent: never two members on one agent (default); none',
    '--attribute NAME=VALUE': 'only on agents with this attribute; may be repeated',
    '--from CLUSTER': 'a copy of its newest backup; sizes not given are as there. `selvedge copy` says more',
    '--dry-run': 'say whether and where it would be placed, and change nothing',
    ...waitHelp,
  },
  examples: [
    'selvedge create orders --wait',
    'selvedge create orders --cpus 4 --mem 16G --data mount:200G --backup path:400G --wait',
    'selvedge create orders --members 5 --dry-run',
  ],
  run: async (context) => {
    const { words, options } = context;
    const source = options.text('from');
    const backup = options.text('backup');
    const body =
      source === undefined
        ? toBody(words[0], options, backup)
        : toCopyBody(options, { name: words[0], from: { cluster: source }, backup });
    return options.has('dry-run') ? dryRun(context, body) : createCluster(context, body);
  },
};

/** Of a copy: what is not given is left out, and as in the source then. `backup`: its volume, as `create` takes it. */
export function toCopyBody(
  options: Options,
  asked: { readonly name: string | undefined; readonly from: object; readonly backup: string | undefined },
) {
  const { name, from, backup } = asked;
  const whole = toBody(name, options, backup);
  const [cpus, mem] = [options.text('cpus'), options.text('mem')];
  if ((cpus === undefined) !== (mem === undefined)) throw usageError('--cpus and --mem are given together, or neither');
  const data = options.text('data');
  if (data === undefined && backup !== undefined) throw usageError('a backup volume is given together with --data');
  const hasPlacement = options.text('spread') !== undefined || options.list('attribute').length > 0;
  const { resources, volumes, placement, ...rest } = whole;
  return {
    ...rest,
    from,
    ...(cpus === undefined ? {} : { resources }),
    ...(data === undefined ? {} : { volumes }),
    ...(hasPlacement ? { placement } : {}),
  };
}

function toBody(name: string | undefined, options: Options, backup: string | undefined) {
  const attributes = options.list('attribute').map((text) => {
    const at = text.indexOf('=');
    if (at < 1) throw usageError(`--attribute ${text} is not NAME=VALUE`);
    return [text.slice(0, at), text.slice(at + 1)];
  });
  const spread = options.text('spread');
  const members = options.number('members');
  const [durability, ackFlush] = [options.text('durability'), options.text('ack-flush')];
  return {
    name,
    ...(members === undefined ? {} : { members }),
    resources: { cpus: options.number('cpus') ?? 1, memMb: parseSize(options.text('mem') ?? '1024') },
    volumes: { data: parseVolume(options.text('data') ?? 'root:2048'), backup: parseBackup(backup) },
    ...(durability === undefined ? {} : { durability }),
    ...(ackFlush === undefined ? {} : { ackFlush }),
    placement: { ...(spread === undefined ? {} : { spread }), attributes: Object.fromEntries(attributes) },
  };
}

function parseBackup(text = 'root:4096') {
  return text === 'none' ? null : parseVolume(text);
}

function parseVolume(text: string) {
  const [, type, size] = /^(root|path|mount):(\w+)$/.exec(text) ?? [];
  if (!type || !size) throw usageError(`${text} is not TYPE:SIZE, such as mount:200G`);
  return { type, sizeMb: parseSize(size) };
}

/** Megabytes, or with M, G, T. */
function parseSize(text: string): number {
  const [, count, unit] = /^(\d{1,9})([MGT]?)$/i.exec(text) ?? [];
  if (!count) throw usageError(`${text} is no size, such as 2048 or 2G`);
  const factors: Readonly<Record<string, number>> = { G: 1024, T: 1024 * 1024 };
  return Number(count) * (factors[unit?.toUpperCase() ?? ''] ?? 1);
}

async function dryRun({ client, io, isJson }: VerbContext, body: object) {
  const answer = await client.request({ method: 'POST', path: '/v1/clusters?dryRun=true', body, schema: dryRunView });
  io.out(isJson ? `${JSON.stringify(answer)}\n` : dryRunText(answer));
  return answer.isPlaceable ? exitCodes.done : exitCodes.refused;
}

function dryRunText(answer: z.output<typeof dryRunView>): string {
  const lines = [answer.isPlaceable ? 'It would be placed now.' : 'It would not be placed now.'];
  if (answer.neverFits) lines.push(`It can never be placed: ${answer.neverFits}`);
  for (const { ordinal, hostname, agentId } of answer.placed) lines.push(`member ${ordinal}: ${hostname} (${agentId})`);
  for (const { ordinal, agents } of answer.refused) {
    lines.push(`member ${ordinal}: no place${agents.length === 0 ? ', no agent offers anything' : ''}`);
    for (const { hostname, stages } of agents)
      for (const stage of stages) if (!stage.isPassed) lines.push(`  ${hostname}: ${stage.name}: ${stage.reason}`);
  }
  lines.push(...answer.warnings.map((warning) => `Note: ${warning}`));
  return lines.map((line) => `${clean(line)}\n`).join('');
}

/** Asks for it, prints the credentials, and waits when it shall. */
export async function createCluster({ client, io, isJson, options }: VerbContext, body: object) {
  const timeoutMs = options.timeoutMs();
  const created = await client.request({ method: 'POST', path: '/v1/clusters', body, schema: createdView });
  const { credentials } = created;
  if (!isJson) {
    // Before waiting: they are never told again.
    const { user, password, uri } = credentials;
    io.out(table(['CLUSTER', 'USER', 'PASSWORD', 'URI'], [[created.name, user, password, uri]]));
    for (const warning of created.warnings) io.err(`Note: ${clean(warning)}\n`);
  }
  if (!options.has('wait')) {
    if (isJson) io.out(`${JSON.stringify(created)}\n`);
    return exitCodes.done;
  }
  const { seen, error } = await waitUntil({
    io,
    timeoutMs,
    look: () => client.request({ method: 'GET', path: clusterPath(created.id), schema: clusterView }),
    describe: stateLine,
    isDone: ({ state }) => ['ready', 'retaining', 'retained', 'deleting', 'deleted'].includes(state),
  });
  const last = seen ?? created;
  io.out(isJson ? `${JSON.stringify({ ...last, credentials })}\n` : `\n${clusterText(last)}`);
  if (error) throw error;
  return last.state === 'ready' ? exitCodes.done : exitCodes.refused;
}
