/** What is in a tail: its files as they are, and its text page by page. Data of the team, as a backup is. */
import { Readable } from 'node:stream';
import { Refusal } from '../../errors.ts';
import { addEvent } from '../../store/events.ts';
import { listMembers } from '../../store/members.ts';
import type { ClusterRow } from '../../store/rows.ts';
import type { ApiDeps, App } from '../deps.ts';
import type { LiveTail } from '../live.ts';
import { getClusterNamed, requireNotRetained } from '../lookups.ts';
import { type BeginReading, boundReaders } from '../readers.ts';
import * as schemas from '../schemas.ts';

/** Each holds two connections. */
const READERS_MAX = 8;
const PAGE_BYTES = 64 * 1024;
const TEXT_FILE = 'tail.sql';
const NEWLINE = 10;

interface Kept {
  readonly cluster: ClusterRow;
  readonly ordinal: number;
  readonly tail: LiveTail;
}

export function addTailFileRoutes(app: App, deps: ApiDeps): void {
  const begin = boundReaders(app, READERS_MAX, 'tails are read');
  addFileRoute(app, deps, begin);
  addTextRoute(app, deps, begin);
}

function addFileRoute(app: App, deps: ApiDeps, begin: BeginReading): void {
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/tails/:id/files/:file',
    config: { role: 'team' },
    schema: {
      tags: ['members'],
      summary: 'A file of a tail as it is kept: tail.binlog is a binary log, tail.sql its text',
      params: schemas.tailFileParams,
      querystring: schemas.noQuery,
    },
    handler: async (request, reply) => {
      const { name, id, file } = request.params;
      const kept = await findTail(deps, name, id);
      const bytes = sizeOf(kept, file);
      const { signal, end } = begin();
      reply.raw.once('close', end);
      try {
        await tell(deps, kept, { file, by: request.requestedBy });
        const stream = await deps.readTail(wanted(kept, file, 0), signal);
        void reply
          .type('application/octet-stream')
          .header('content-length', bytes)
          .header('content-disposition', `attachment; filename="${id}-${file}"`);
        return reply.send(Readable.from(stream, { objectMode: false }));
      } catch (error) {
        end();
        throw error;
      }
    },
  });
}

function addTextRoute(app: App, deps: ApiDeps, begin: BeginReading): void {
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/tails/:id/text',
    config: { role: 'team' },
    schema: {
      tags: ['members'],
      summary: 'The text of a tail, page by page: its transactions with each row, as comments',
      params: schemas.operationParams,
      querystring: schemas.tailTextQuery,
      response: { 200: schemas.tailText },
    },
    handler: async (request) => {
      const { offset = 0, limit = PAGE_BYTES } = request.query;
      const kept = await findTail(deps, request.params.name, request.params.id);
      const totalBytes = sizeOf(kept, TEXT_FILE);
      const about = { id: kept.tail.id, member: kept.ordinal, offset, totalBytes };
      if (offset >= totalBytes) return { ...about, text: '', nextOffset: null };
      const { signal, end } = begin();
      try {
        if (offset === 0) await tell(deps, kept, { file: TEXT_FILE, by: request.requestedBy });
        const page = await readPage(await deps.readTail(wanted(kept, TEXT_FILE, offset), signal), limit);
        const next = offset + page.length;
        return { ...about, text: page.toString(), nextOffset: next < totalBytes && page.length > 0 ? next : null };
      } finally {
        end();
      }
    },
  });
}

/** Whole lines of at most `limit` bytes; a longer line is cut. */
async function readPage(stream: AsyncIterable<Buffer>, limit: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of stream) {
    parts.push(part);
    size += part.length;
    if (size > limit) break;
  }
  const all = Buffer.concat(parts);
  if (size <= limit) return all;
  const lines = all.subarray(0, limit).lastIndexOf(NEWLINE) + 1;
  return all.subarray(0, lines > 0 ? lines : limit);
}

async function findTail({ store, live }: ApiDeps, name: string, id: string): Promise<Kept> {
  const cluster = await getClusterNamed(store, name);
  requireNotRetained(cluster);
  for (const { ordinal } of await listMembers(store, cluster.id)) {
    const tail = live.member(cluster.id, ordinal)?.tails?.find((one) => one.id === id);
    if (tail) return { cluster, ordinal, tail };
  }
  throw new Refusal('NOT_FOUND', `No member that is reached keeps a tail ${id}.`);
}

function sizeOf({ tail }: Kept, name: string): number {
  const file = tail.files?.find((one) => one.name === name);
  if (!file) throw new Refusal('NOT_FOUND', `Tail ${tail.id} has no file ${name}.`);
  return file.bytes;
}

const wanted = ({ cluster, ordinal, tail }: Kept, file: string, from: number) => {
  return { clusterId: cluster.id, ordinal, id: tail.id, file, from };
};

/** Somebody reads what the team wrote: that is told, as a change is. */
async function tell(
  { store, log }: ApiDeps,
  { cluster, ordinal, tail }: Kept,
  { file, by }: { readonly file: string; readonly by: string },
): Promise<void> {
  log.info({ cluster: cluster.name, tail: tail.id, file, by }, 'a tail is read');
  const message = `${by} reads ${file} of tail ${tail.id}`;
  await addEvent(store, { kind: 'tail.read', clusterId: cluster.id, cluster: cluster.name, ordinal, message });
}
