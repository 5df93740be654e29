import type { z } from 'zod';
import { fillSpec, specWarnings } from '../../cluster/spec.ts';
import { Refusal } from '../../errors.ts';
import {
  findCluster,
  getCluster,
  insertCluster,
  listClusters,
  markClusterDeleted,
  type NewCluster,
  setAutomation,
  setCooldown,
  setDurability,
  setPreferences,
} from '../../store/clusters.ts';
import { addEvent } from '../../store/events.ts';
import type { Account, ClusterRow } from '../../store/rows.ts';
import { findOrigin, requireFit, specOf } from '../copy-origin.ts';
import type { ApiDeps, App } from '../deps.ts';
import { getClusterNamed, getClusterToChange } from '../lookups.ts';
import { BadRequest } from '../problems.ts';
import { retain } from '../retained.ts';
import * as schemas from '../schemas.ts';
import type { Streams } from '../streams.ts';
import { clusterSummary, clusterView, endpointsView } from '../views.ts';

/** The controller tells of changes; this is for those that are lost on the way. */
const ENDPOINTS_LOOK_MS = 5_000;
const USER_LENGTH_MAX = 32;

export function addClusterRoutes(app: App, deps: ApiDeps): void {
  app.route({
    method: 'POST',
    url: '/v1/clusters',
    config: { role: 'team' },
    schema: {
      tags: ['clusters'],
      summary: 'Ask for a cluster; ?dryRun=true says whether and where it would be placed',
      body: schemas.createBody,
      querystring: schemas.createQuery,
      response: { 200: schemas.dryRunView, 202: schemas.createdView },
    },
    handler: async (request, reply) => {
      const { from, ...body } = request.body;
      const copied = from ? await findOrigin(deps, from) : null;
      const filled = fillSpec(specOf(body, copied?.source.spec ?? null));
      if (filled.kind === 'faulty') throw new BadRequest(filled.faults);
      const { spec } = filled;
      if (copied) requireFit(spec, copied.origin);
      if (await findCluster(deps.store, spec.name))
        throw new Refusal(
          'NAME_TAKEN',
          `There is a cluster named ${spec.name}; one whose volumes are retained counts.`,
        );
      if (!deps.live.isConnected()) throw new Refusal('NOT_CONNECTED', 'What the agents offer is not known now.');
      const { placed, refused, neverFits } = deps.live.place(spec);
      if (request.query.dryRun)
        return reply.code(200).send({
          isPlaceable: refused.length === 0 && neverFits === undefined,
          spec,
          warnings: specWarnings(spec),
          placed: [...placed],
          refused: refused.map(({ ordinal, agents }) => ({
            ordinal,
            agents: agents.map((agent) => ({ ...agent, stages: [...agent.stages] })),
          })),
          neverFits: neverFits ?? null,
        });
      if (neverFits !== undefined) throw new Refusal('NEVER_PLACEABLE', neverFits);
      const created = await createCluster(deps, {
        spec,
        requestedBy: request.requestedBy,
        origin: copied?.origin ?? null,
      });
      void reply.header('location', `/v1/clusters/${spec.name}`);
      return reply.code(202).send(created);
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters',
    schema: {
      tags: ['clusters'],
      summary: 'All clusters; ?all=true with those that are gone',
      querystring: schemas.listQuery,
      response: { 200: schemas.clusterList },
    },
    handler: async (request) => {
      const rows = await listClusters(deps.store, { includeDeleted: request.query.all ?? false });
      return { clusters: await Promise.all(rows.map((row) => clusterSummary(deps, row))) };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters/:name',
    schema: {
      tags: ['clusters'],
      summary: 'One cluster with its members',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.clusterView },
    },
    handler: async (request) => clusterView(deps, await getClusterNamed(deps.store, request.params.name)),
  });
}

/** Members and their identities are chosen here, once; the rows are written whole or not at all. */
async function createCluster(deps: ApiDeps, wanted: Required<Pick<NewCluster, 'spec' | 'requestedBy' | 'origin'>>) {
  const { spec } = wanted;
  const { store, newId } = deps;
  const id = newId();
  const secrets = await deps.createSecrets({ id, name: spec.name, teamUser: teamUser(spec.name) });
  const members = Array.from({ length: spec.members }, (_, ordinal) => ({
    ordinal,
    incarnation: newId(),
    serverUuid: newId(),
  }));
  const row = await insertCluster(store, { ...wanted, id, secrets, members });
  deps.wake(id);
  return {
    ...(await clusterView(deps, row)),
    credentials: { ...secrets.team, uri: uriOf(deps, row, secrets.team), caCertPem: secrets.caCertPem },
  };
}

/** The connection string that survives failover: the proxy listens on the service port. */
function uriOf({ proxyHost }: ApiDeps, { servicePort }: ClusterRow, { user, password }: Account): string {
  const host = proxyHost.includes(':') ? `[${proxyHost}]` : proxyHost;
  return `mysql://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${host}:${servicePort}/`;
}

/** MySQL allows 32 characters. The prefix keeps a cluster named root or mysql away from MySQL's own accounts. */
function teamUser(name: string): string {
  return `team_${name.replaceAll('-', '_')}`.slice(0, USER_LENGTH_MAX);
}

export function addClusterChanges(app: App, deps: ApiDeps): void {
  app.route({
    method: 'PATCH',
    url: '/v1/clusters/:name',
    config: { role: 'team' },
    schema: {
      tags: ['clusters'],
      summary: 'Change the durability, what happens by itself, or release the cooldown',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      body: schemas.patchBody,
      response: { 200: schemas.clusterView },
    },
    handler: async (request) => {
      const row = await getClusterToChange(deps.store, request.params.name);
      const changed = await change(deps, row, request.body);
      request.log.info({ cluster: row.name, by: request.requestedBy, change: request.body }, 'cluster changed');
      const data = { by: request.requestedBy, change: request.body };
      await addEvent(deps.store, {
        kind: 'cluster.changed',
        clusterId: row.id,
        cluster: row.name,
        message: describe(request.body),
        data,
      });
      deps.wake(row.id);
      return clusterView(deps, changed);
    },
  });

  app.route({
    method: 'DELETE',
    url: '/v1/clusters/:name',
    config: { role: 'team' },
    schema: {
      tags: ['clusters'],
      summary: 'Delete the cluster, with its volumes and all reservations or without; may be repeated',
      params: schemas.clusterParams,
      querystring: schemas.deleteQuery,
      response: { 202: schemas.clusterView },
    },
    handler: async (request, reply) => {
      const row = await getClusterNamed(deps.store, request.params.name);
      const { retainVolumes = false } = request.query;
      const marked = retainVolumes
        ? await retain(deps, row, request.requestedBy)
        : await markClusterDeleted(deps.store, row.id, request.requestedBy);
      const what = { cluster: row.name, clusterId: row.id, retainVolumes, by: request.requestedBy };
      request.log.info(what, 'delete cluster');
      deps.wake(row.id);
      return reply.code(202).send(await clusterView(deps, marked));
    },
  });
}

export function addEndpointRoutes(app: App, deps: ApiDeps, streams: Streams): void {
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/endpoints',
    schema: {
      tags: ['clusters'],
      summary: 'Where the primary and the replicas are; ?watch=true as server-sent events',
      params: schemas.clusterParams,
      querystring: schemas.watchQuery,
      response: { 200: schemas.endpointsView },
    },
    handler: async (request, reply) => {
      const { id, ...row } = await getClusterNamed(deps.store, request.params.name);
      if (!request.query.watch) return endpointsView(deps, { id, ...row });
      let last = '';
      streams.open(request, reply, {
        everyMs: ENDPOINTS_LOOK_MS,
        subscribe: (look) => deps.live.subscribe((change) => change.clusterId === id && look()),
        look: async (stream) => {
          const current = await getClusterNamed(deps.store, id);
          const view = await endpointsView(deps, current);
          // Lag changes all the time and is no change of where to go.
          const key = JSON.stringify({ ...view, replicas: view.replicas.map(({ lagMs: _, ...rest }) => rest) });
          if (key !== last) stream.send({ event: 'endpoints', data: view });
          last = key;
          if (current.deletedAt === null) return;
          stream.send({ event: 'gone', data: { cluster: current.name } });
          stream.close();
        },
      });
      return reply;
    },
  });
}

type Patch = z.infer<typeof schemas.patchBody>;

/** Scaling and other parts of the specification are not among the fields, so they answer 400 with their path. */
async function change({ store }: ApiDeps, row: ClusterRow, patch: Patch): Promise<ClusterRow> {
  const { durability, ackFlush, automation } = patch;
  if (durability !== undefined || ackFlush !== undefined) {
    const filled = fillSpec({ ...row.spec, ...(durability ? { durability } : {}), ...(ackFlush ? { ackFlush } : {}) });
    if (filled.kind === 'faulty') throw new BadRequest(filled.faults);
    await setDurability(store, row.id, { durability, ackFlush });
  }
  if (automation) await setAutomation(store, row.id, { mode: automation.mode, until: automation.until ?? null });
  if (patch.preferences) {
    const strangers = Object.keys(patch.preferences).filter((ordinal) => Number(ordinal) >= row.spec.members);
    const faults = strangers.map((ordinal) => ({
      path: `preferences.${ordinal}`,
      message: 'the cluster has no such member',
    }));
    if (faults.length > 0) throw new BadRequest(faults);
    await setPreferences(store, row.id, patch.preferences);
  }
  if (patch.cooldown === null) await setCooldown(store, null, row.id, null);
  return getCluster(store, row.id);
}

function describe({ durability, ackFlush, automation, cooldown, preferences }: Patch): string {
  return [
    ...(durability ? [`durability ${durability}`] : []),
    ...(ackFlush ? [`ackFlush ${ackFlush}`] : []),
    ...(automation
      ? [`automation ${automation.mode}${automation.until ? ` until ${new Date(automation.until).toISOString()}` : ''}`]
      : []),
    ...(preferences ? [`preferences ${JSON.stringify(preferences)}`] : []),
    ...(cooldown === null ? ['cooldown released'] : []),
  ].join(', ');
}
