import { clusterList, clusterView, endpointsView } from '../api/schemas.ts';
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
  options: { yes: { type: 'boolean' }, ...waitOptions },
  help: { '--yes': 'do not ask to type the name', ...waitHelp },
  examples: ['selvedge rm orders', 'selvedge rm orders --yes --wait'],
  run: removeCluster,
};

async function removeCluster({ client, io, isJson, words, options }: VerbContext) {
  const timeoutMs = options.timeoutMs();
  // What was confirmed is deleted, by its id, not what took the name in the meantime.
  const found = await client.request({ method: 'GET', path: clusterPath(words[0]), schema: clusterView });
  if (!options.has('yes')) {
    const answer = await io.ask(`Type ${clean(found.name)} to delete it with all its data and backups: `);
    if (answer === null) throw usageError('There is no terminal to confirm it at: add --yes');
    if (answer.trim() !== found.name) throw new CliError(exitCodes.refused, 'Not confirmed, nothing was deleted.');
  }
  const path = clusterPath(found.id);
  const deleting = await client.request({ method: 'DELETE', path, schema: clusterView });
  if (!options.has('wait')) {
    io.out(isJson ? `${JSON.stringify(deleting)}\n` : `${clean(deleting.name)} is being deleted.\n`);
    return exitCodes.done;
  }
  const { seen, error } = await waitUntil({
    io,
    timeoutMs,
    look: () => client.request({ method: 'GET', path, schema: clusterView }),
    describe: stateLine,
    isDone: ({ state }) => state === 'deleted',
  });
  if (error && !(error instanceof ApiError && error.status === 404)) throw error;
  io.out(isJson ? `${JSON.stringify(seen ?? deleting)}\n` : `${clean(deleting.name)} is gone.\n`);
  return exitCodes.done;
}
