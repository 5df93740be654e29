import { type ClusterView, clusterList, clusterView, endpointsView } from '../api/schemas.ts';
import { ApiError } from './http.ts';
import { CliError, exitCodes, usageError } from './io.ts';
import { clusterText, endpointsText, stateLine } from './show.ts';
import { clean, table, time } from './tables.ts';
import { clusterPath, type Verb, type VerbContext, waitHelp, waitOptions } from './verb.ts';
import { waitUntil } from './wait.ts';

export const ls: Verb = {
  name: 'ls',
  summary: 'List the clusters.',
  usage: '[options]',
  wordCount: 0,
  options: { all: { type: 'boolean' } },
  help: { '--all': 'with those that are gone' },
  examples: ['selvedge ls', 'selvedge ls --json'],
  run: async ({ client, io, isJson, options }) => {
    const path = `/v1/clusters${options.has('all') ? '?all=true' : ''}`;
    const answer = await client.request({ method: 'GET', path, schema: clusterList });
    const rows = answer.clusters.map((cluster) => [
      cluster.name,
      cluster.state,
      cluster.spec.members,
      cluster.primary,
      cluster.epoch,
      time(cluster.createdAt),
      cluster.conditions[0]?.message,
    ]);
    const head = ['CLUSTER', 'STATE', 'MEMBERS', 'PRIMARY', 'EPOCH', 'CREATED', 'WHY'];
    io.out(isJson ? `${JSON.stringify(answer)}\n` : table(head, rows));
    return exitCodes.done;
  },
};

export const status: Verb = {
  name: 'status',
  summary: 'Show a cluster with its members.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: {},
  help: {},
  examples: ['selvedge status orders'],
  run: async ({ client, io, isJson, words }) => {
    const answer = await client.request({ method: 'GET', path: clusterPath(words[0]), schema: clusterView });
    io.out(isJson ? `${JSON.stringify(answer)}\n` : clusterText(answer));
    return exitCodes.done;
  },
};

export const endpoints: Verb = {
  name: 'endpoints',
  summary: 'Show where the primary and the replicas are.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: { watch: { type: 'boolean' } },
  help: { '--watch': 'on and on, whenever they change' },
  examples: ['selvedge endpoints orders', 'selvedge endpoints orders --watch --json'],
  run: async ({ client, io, isJson, words, options }) => {
    const path = `${clusterPath(words[0])}/endpoints`;
    const show = (answer: unknown) => {
      const view = endpointsView.parse(answer);
      io.out(isJson ? `${JSON.stringify(view)}\n` : endpointsText(view));
    };
    if (options.has('watch'))
      await client.follow(`${path}?watch=true`, (event, data) => (event === 'endpoints' ? show(data) : undefined));
    else show(await client.request({ method: 'GET', path, schema: endpointsView }));
    return exitCodes.done;
  },
};

export const rm: Verb = {
  name: 'rm',
  summary: 'Delete a cluster with its volumes, backups too. There is no way back.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: { yes: { type: 'boolean' }, 'retain-volumes': { type: 'boolean' }, ...waitOptions },
  help: {
    '--yes': 'do not ask to type the name',
    '--retain-volumes': 'keep volumes, reservations and backups: it can be copied until it is purged',
    ...waitHelp,
  },
  examples: ['selvedge rm orders', 'selvedge rm orders --yes --wait', 'selvedge rm orders --retain-volumes --wait'],
  run: removeCluster,
};

/** The same under the word that the API has for it. */
export const del: Verb = { ...rm, name: 'delete', summary: 'As `rm`.' };

export const purge: Verb = {
  name: 'purge',
  summary: 'Destroy the retained volumes of a deleted cluster, backups too. There is no way back.',
  usage: 'NAME --confirm NAME [options]',
  wordCount: 1,
  options: { confirm: { type: 'string' }, ...waitOptions },
  help: { '--confirm NAME': 'the name of the cluster once more (needed)', ...waitHelp },
  examples: ['selvedge purge orders --confirm orders --wait'],
  run: async (context) => {
    const { client, words, options } = context;
    const confirm = options.text('confirm');
    if (confirm === undefined) throw usageError(`--confirm ${words[0]} is needed`);
    const found = await client.request({ method: 'GET', path: clusterPath(words[0]), schema: clusterView });
    const path = `${clusterPath(found.id)}/purge`;
    const purging = await client.request({ method: 'POST', path, body: { confirm }, schema: clusterView });
    return tellEnd(context, purging, { during: 'is being purged', end: 'is gone', state: 'deleted' });
  },
};

async function removeCluster(context: VerbContext) {
  const { client, io, words, options } = context;
  options.timeoutMs();
  // What was confirmed is deleted, by its id, not what took the name in the meantime.
  const found = await client.request({ method: 'GET', path: clusterPath(words[0]), schema: clusterView });
  const isRetaining = options.has('retain-volumes');
  if (!options.has('yes')) {
    const what = isRetaining ? 'and to keep its volumes' : 'with all its data and backups';
    const answer = await io.ask(`Type ${clean(found.name)} to delete it ${what}: `);
    if (answer === null) throw usageError('There is no terminal to confirm it at: add --yes');
    if (answer.trim() !== found.name) throw new CliError(exitCodes.refused, 'Not confirmed, nothing was deleted.');
  }
  const path = clusterPath(found.id);
  const query = isRetaining ? '?retainVolumes=true' : '';
  const deleting = await client.request({ method: 'DELETE', path: `${path}${query}`, schema: clusterView });
  const end = isRetaining
    ? ({ end: 'has ended; its volumes are kept until it is purged', state: 'retained' } as const)
    : ({ end: 'is gone', state: 'deleted' } as const);
  return tellEnd(context, deleting, { during: 'is being deleted', ...end });
}

interface End {
  readonly during: string;
  readonly end: string;
  readonly state: ClusterView['state'];
}

async function tellEnd({ client, io, isJson, options }: VerbContext, deleting: ClusterView, words: End) {
  const timeoutMs = options.timeoutMs();
  const path = clusterPath(deleting.id);
  if (!options.has('wait')) {
    io.out(isJson ? `${JSON.stringify(deleting)}\n` : `${clean(deleting.name)} ${words.during}.\n`);
    return exitCodes.done;
  }
  const { seen, error } = await waitUntil({
    io,
    timeoutMs,
    look: () => client.request({ method: 'GET', path, schema: clusterView }),
    describe: stateLine,
    isDone: ({ state }) => state === words.state || state === 'deleted',
  });
  if (error && !(error instanceof ApiError && error.status === 404)) throw error;
  io.out(isJson ? `${JSON.stringify(seen ?? deleting)}\n` : `${clean(deleting.name)} ${words.end}.\n`);
  return exitCodes.done;
}
