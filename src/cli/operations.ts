import type { z } from 'zod';
import { eventList, eventView, offerList, reservationList } from '../api/schemas.ts';
import { delay } from '../clock.ts';
import { CliError, exitCodes } from './io.ts';
import { clean, table, time } from './tables.ts';
import type { Verb, VerbContext } from './verb.ts';

const RETRY_MS = 1_000;

export const events: Verb = {
  name: 'events',
  summary: 'Show what happened, oldest first.',
  usage: '[options]',
  wordCount: 0,
  options: {
    follow: { type: 'boolean' },
    after: { type: 'string' },
    cluster: { type: 'string' },
    limit: { type: 'string' },
  },
  help: {
    '--follow': 'on and on; comes back by itself when the API was away',
    '--after SEQ': 'only events with a higher number',
    '--cluster NAME': 'only of this cluster',
    '--limit N': 'at most so many (default 100)',
  },
  examples: ['selvedge events', 'selvedge events --follow --cluster orders'],
  run: async (context) => (context.options.has('follow') ? followEvents(context) : listEvents(context)),
};

function eventsPath({ options }: VerbContext, more: Readonly<Record<string, string>>): string {
  const query = new URLSearchParams(more);
  for (const name of ['after', 'limit']) {
    const value = options.number(name);
    if (value !== undefined && !query.has(name)) query.set(name, String(value));
  }
  const cluster = options.text('cluster');
  if (cluster !== undefined) query.set('cluster', cluster);
  return `/v1/events?${query}`;
}

async function listEvents(context: VerbContext) {
  const { client, io, isJson } = context;
  const answer = await client.request({ method: 'GET', path: eventsPath(context, {}), schema: eventList });
  io.out(isJson ? `${JSON.stringify(answer)}\n` : answer.events.map(eventLine).join(''));
  return exitCodes.done;
}

/** The first connection must succeed; after that the stream is taken up again where it broke off. */
async function followEvents(context: VerbContext) {
  const { client, io, isJson } = context;
  let seen: number | undefined;
  let isConnected = false;
  for (;;) {
    const after: Record<string, string> = seen === undefined ? {} : { after: String(seen) };
    try {
      await client.follow(eventsPath(context, { follow: 'true', ...after }), (_, data) => {
        isConnected = true;
        const event = eventView.parse(data);
        seen = event.seq;
        io.out(isJson ? `${JSON.stringify(event)}\n` : eventLine(event));
      });
    } catch (error) {
      if (!isConnected || !(error instanceof CliError) || error.exitCode !== exitCodes.notReachable) throw error;
      io.err(`${clean(error.message)} Trying again.\n`);
    }
    await delay(io.clock, RETRY_MS, io.signal).catch(() => {});
    if (io.signal?.aborted) return exitCodes.done;
  }
}

function eventLine(event: z.output<typeof eventView>): string {
  const where = event.cluster ? `${event.cluster}${event.ordinal === null ? '' : `.${event.ordinal}`}` : '-';
  const data = Object.keys(event.data).length > 0 ? ` ${JSON.stringify(event.data)}` : '';
  return `${clean(`${time(event.at)}  ${event.kind}  ${where}  ${event.message}${data}`)}\n`;
}

export const offers: Verb = {
  name: 'offers',
  summary: 'Show the last offer of each agent, and why it was not used.',
  usage: '[options]',
  wordCount: 0,
  options: {},
  help: {},
  examples: ['selvedge offers'],
  run: async ({ client, io, isJson }) => {
    const answer = await client.request({ method: 'GET', path: '/v1/offers', schema: offerList });
    io.out(isJson ? `${JSON.stringify(answer)}\n` : offersText(answer));
    return exitCodes.done;
  },
};

function offersText({ offers: list }: z.output<typeof offerList>): string {
  const agents = table(
    ['AGENT', 'HOST', 'CPUS', 'MEM', 'DISKS', 'RECEIVED'],
    list.map((offer) => [
      offer.agentId,
      offer.hostname,
      offer.cpus,
      `${offer.memMb} MB`,
      offer.disks.map(({ type, sizeMb }) => `${type}:${sizeMb}`).join(' '),
      time(offer.receivedAt),
    ]),
  );
  const tried = list.flatMap(({ hostname, tried: tries }) =>
    tries.map(({ cluster, ordinal, outcome, stages }) => {
      const why = stages.filter((stage) => !stage.isPassed).map(({ name, reason }) => `${name}: ${reason}`);
      return `${clean(`${hostname}: ${cluster}.${ordinal} ${outcome}${why.length > 0 ? `: ${why.join('; ')}` : ''}`)}\n`;
    }),
  );
  return [agents, ...(tried.length > 0 ? ['\n', ...tried] : [])].join('');
}

export const reservations: Verb = {
  name: 'reservations',
  summary: 'Show everything that is reserved, volumes too, and when it was last seen.',
  usage: '[options]',
  wordCount: 0,
  options: { all: { type: 'boolean' } },
  help: { '--all': 'with what was released' },
  examples: ['selvedge reservations'],
  run: async ({ client, io, isJson, options }) => {
    const path = `/v1/reservations${options.has('all') ? '?all=true' : ''}`;
    const answer = await client.request({ method: 'GET', path, schema: reservationList });
    const rows = answer.reservations.map((row) => [
      row.cluster,
      row.member,
      row.state,
      row.hostname,
      row.cpus,
      `${row.memMb} MB`,
      `${row.ports.mysql},${row.ports.control},${row.ports.health}`,
      row.volumes.map(({ kind, type, sizeMb }) => `${kind}=${type}:${sizeMb}`).join(' '),
      time(row.lastSeenAt),
      row.id,
    ]);
    const head = ['CLUSTER', 'MEMBER', 'STATE', 'HOST', 'CPUS', 'MEM', 'PORTS', 'VOLUMES', 'LAST SEEN', 'ID'];
    io.out(isJson ? `${JSON.stringify(answer)}\n` : table(head, rows));
    return exitCodes.done;
  },
};
