/** What operators look at: events, offers, reservations, health, metrics. */
import { Refusal } from '../../errors.ts';
import { listBundles } from '../../store/bundles.ts';
import { listClusters } from '../../store/clusters.ts';
import { listEvents } from '../../store/events.ts';
import type { ApiDeps, App } from '../deps.ts';
import * as schemas from '../schemas.ts';
import type { Streams } from '../streams.ts';
import { reservationView } from '../views.ts';

const EVENTS_DEFAULT = 100;
const EVENTS_LOOK_MS = 500;

export function addEventRoutes(app: App, deps: ApiDeps, streams: Streams): void {
  app.route({
    method: 'GET',
    url: '/v1/events',
    schema: {
      tags: ['operations'],
      summary: 'What happened, oldest first: after a seq, or the newest; ?follow=true as server-sent events',
      querystring: schemas.eventsQuery,
      response: { 200: schemas.eventList },
    },
    handler: async (request, reply) => {
      const { follow, after, cluster, limit = EVENTS_DEFAULT } = request.query;
      const ofCluster = cluster === undefined ? {} : { cluster };
      const resumeAt = lastEventId(request.headers['last-event-id']) ?? after;
      const query = { ...ofCluster, limit, ...(resumeAt === undefined ? {} : { after: resumeAt }) };
      if (!follow) return { events: await listEvents(deps.store, query) };
      let seen = resumeAt;
      streams.open(request, reply, {
        everyMs: EVENTS_LOOK_MS,
        subscribe: (look) => deps.live.subscribe(look),
        look: async (stream) => {
          const rows = await listEvents(deps.store, seen === undefined ? query : { ...query, after: seen });
          for (const row of rows) stream.send({ event: row.kind, id: String(row.seq), data: row });
          seen = rows.at(-1)?.seq ?? seen ?? 0;
        },
      });
      return reply;
    },
  });
}

/** Sent by a reader of the stream that comes back. */
function lastEventId(header: string | string[] | undefined): number | undefined {
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

export function addOperationRoutes(app: App, deps: ApiDeps): void {
  const { store, live } = deps;
  app.route({
    method: 'GET',
    url: '/v1/offers',
    config: { role: 'operator' },
    schema: {
      tags: ['operations'],
      summary: 'The last offer of each agent, and for each member that was tried on it every stage with its reason',
      querystring: schemas.noQuery,
      response: { 200: schemas.offerList },
    },
    handler: async () => ({
      offers: live.offers().map((offer) => ({
        ...offer,
        offerIds: [...offer.offerIds],
        ports: [...offer.ports],
        disks: [...offer.disks],
        tried: offer.tried.map((tried) => ({ ...tried, stages: [...tried.stages] })),
      })),
    }),
  });

  app.route({
    method: 'GET',
    url: '/v1/reservations',
    config: { role: 'operator' },
    schema: {
      tags: ['operations'],
      summary: 'Everything that is reserved, its member and when it was last seen; ?all=true with what was released',
      querystring: schemas.listQuery,
      response: { 200: schemas.reservationList },
    },
    handler: async (request) => {
      const clusters = await listClusters(store, { includeDeleted: true });
      const names = new Map(clusters.map((cluster) => [cluster.id, cluster.name]));
      const states = request.query.all ? {} : { states: ['intended', 'reserved', 'releasing'] as const };
      const rows = await listBundles(store, states);
      return { reservations: rows.map((row) => reservationView(row, names.get(row.clusterId) ?? '')) };
    },
  });
}

export function addHealthRoutes(app: App, { live }: ApiDeps): void {
  app.route({
    method: 'GET',
    url: '/healthz',
    config: { role: 'open' },
    schema: { tags: ['operations'], summary: 'The process answers' },
    handler: async () => ({ isHealthy: true }),
  });

  app.route({
    method: 'GET',
    url: '/readyz',
    config: { role: 'open' },
    schema: { tags: ['operations'], summary: '200 when it leads and is subscribed to a Mesos master, else 503' },
    handler: async () => {
      if (!live.isConnected()) throw new Refusal('NOT_CONNECTED', 'There is no subscription to a Mesos master now.');
      return { isReady: true };
    },
  });

  app.route({
    method: 'GET',
    url: '/metrics',
    schema: { tags: ['operations'], summary: "Prometheus' text format" },
    handler: async (_request, reply) => reply.type('text/plain; version=0.0.4; charset=utf-8').send(live.metrics()),
  });
}
