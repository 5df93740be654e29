/** A scheduler for tests: raw calls, events kept, nothing clever. */
import http from 'node:http';
import { vi } from 'vitest';
import { createRecordDecoder } from '../../../src/mesos/recordio.ts';

// biome-ignore lint/suspicious/noExplicitAny: tests look deep into recorded events
export type Event = any;

export interface TestScheduler {
  readonly events: Event[];
  frameworkId: string;
  isClosed: boolean;
  call(body: Record<string, unknown>): Promise<{ status: number; body: string }>;
  /** The first event from `from` on that fits. */
  waitFor(what: (event: Event) => boolean, timeoutMs?: number): Promise<Event>;
  update(taskId: string, state: string, timeoutMs?: number): Promise<Event>;
  acknowledge(status: Event): Promise<void>;
  /** Forgets events, so that the next wait sees only newer ones. */
  forget(): void;
  close(): void;
}

export const frameworkInfo = {
  user: 'root',
  name: 'test',
  roles: ['mysql'],
  principal: 'dbsvc',
  checkpoint: true,
  failover_timeout: 3600,
  capabilities: [{ type: 'MULTI_ROLE' }, { type: 'RESERVATION_REFINEMENT' }, { type: 'PARTITION_AWARE' }],
};

export function post(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: string; headers: http.IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      url,
      { method: 'POST', headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...headers } },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text, headers: response.headers }));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
}

export async function subscribe(
  masterUrl: string,
  info: Record<string, unknown> = frameworkInfo,
  { acknowledgesAll = false } = {},
): Promise<TestScheduler> {
  const events: Event[] = [];
  let from = 0;
  const id = (info['id'] as { value: string } | undefined) ?? undefined;
  const request = http.request(`${masterUrl}/api/v1/scheduler`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    agent: false,
  });
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on('error', reject);
    request.on('response', resolve);
    request.end(
      JSON.stringify({ type: 'SUBSCRIBE', ...(id ? { framework_id: id } : {}), subscribe: { framework_info: info } }),
    );
  });
  if (response.statusCode !== 200) throw new Error(`SUBSCRIBE: ${response.statusCode}`);
  const streamId = String(response.headers['mesos-stream-id']);
  const scheduler: TestScheduler = {
    events,
    frameworkId: id?.value ?? '',
    isClosed: false,
    async call(body) {
      const call = { framework_id: { value: scheduler.frameworkId }, ...body };
      return post(`${masterUrl}/api/v1/scheduler`, call, { 'Mesos-Stream-Id': streamId });
    },
    waitFor: (what, timeoutMs = 10_000) =>
      vi.waitFor(
        () => {
          const found = events.slice(from).find(what);
          if (!found) throw new Error(`not seen among ${JSON.stringify(events.slice(from).map(brief))}`);
          return found;
        },
        { timeout: timeoutMs, interval: 10 },
      ),
    async update(taskId, state, timeoutMs) {
      const event = await scheduler.waitFor(
        (each) => each.update?.status.task_id.value === taskId && each.update.status.state === state,
        timeoutMs,
      );
      await scheduler.acknowledge(event.update.status);
      return event.update.status;
    },
    async acknowledge(status) {
      if (!status.uuid) return;
      const { agent_id, task_id, uuid } = status;
      await scheduler.call({ type: 'ACKNOWLEDGE', acknowledge: { agent_id, task_id, uuid } });
    },
    forget() {
      from = events.length;
    },
    close: () => request.destroy(),
  };
  const decoder = createRecordDecoder();
  response.on('data', (chunk: Buffer) => {
    for (const record of decoder.push(chunk)) {
      const event: Event = JSON.parse(record.toString('utf8'));
      events.push(event);
      if (acknowledgesAll && event.update) scheduler.acknowledge(event.update.status).catch(() => undefined);
    }
  });
  response.on('close', () => {
    scheduler.isClosed = true;
  });
  response.on('error', () => undefined);
  request.on('error', () => undefined);
  const first = await scheduler.waitFor(({ type }) => type === 'SUBSCRIBED' || type === 'ERROR');
  if (first.subscribed) scheduler.frameworkId = first.subscribed.framework_id.value;
  return scheduler;
}

const brief = (event: Event): string =>
  event.update
    ? `${event.update.status.task_id.value} ${event.update.status.state} ${event.update.status.message ?? ''}`
    : event.failure
      ? `FAILURE ${event.failure.status}`
      : event.type;

/** Loopback addresses of this test process alone: runs at the same time do not meet. */
export const subnet = (file: number): string => `127.${100 + file}.${process.pid % 250}`;

const label = (uuid: string) => ({ labels: [{ key: 'bundle', value: uuid }] });

/** The bundle of facts s11: executor holds all but the token. */
export function bundle(uuid: string, roots: { path: string; mount: string }) {
  const reservations = [{ type: 'DYNAMIC', role: 'mysql', principal: 'dbsvc', labels: label(uuid) }];
  const scalar = (name: string, value: number, more = {}) => ({
    name,
    type: 'SCALAR',
    scalar: { value },
    reservations,
    ...more,
  });
  const ports = { name: 'ports', type: 'RANGES', ranges: { range: [{ begin: 31010, end: 31019 }] }, reservations };
  const path = { source: { type: 'PATH', path: { root: roots.path } } };
  const mount = { source: { type: 'MOUNT', mount: { root: roots.mount } } };
  const volume = (id: string, container_path: string) => ({
    persistence: { id, principal: 'dbsvc' },
    volume: { mode: 'RW', container_path },
  });
  const volumes = [
    scalar('disk', 1024, { disk: { ...path, ...volume(`backup-${uuid}`, 'backup') } }),
    scalar('disk', 256, { disk: { ...mount, ...volume(`data-${uuid}`, 'data') } }),
  ];
  return {
    reserve: {
      type: 'RESERVE',
      id: { value: `reserve-${uuid}` },
      reserve: {
        resources: [
          scalar('cpus', 2),
          scalar('mem', 2048),
          ports,
          scalar('disk', 1024, { disk: path }),
          scalar('disk', 256, { disk: mount }),
        ],
      },
    },
    create: { type: 'CREATE', id: { value: `create-${uuid}` }, create: { volumes } },
    destroy: { type: 'DESTROY', destroy: { volumes } },
    unreserve: {
      type: 'UNRESERVE',
      unreserve: {
        resources: [
          scalar('cpus', 2),
          scalar('mem', 2048),
          ports,
          scalar('disk', 1024, { disk: path }),
          scalar('disk', 256, { disk: mount }),
        ],
      },
    },
    launch: (
      taskId: string,
      agentId: string,
      command: Record<string, unknown>,
      more: Record<string, unknown> = {},
    ) => ({
      type: 'LAUNCH',
      launch: {
        task_infos: [
          {
            name: taskId,
            task_id: { value: taskId },
            agent_id: { value: agentId },
            resources: [scalar('cpus', 0.1), scalar('mem', 32)],
            executor: {
              type: 'CUSTOM',
              executor_id: { value: taskId },
              name: 'e',
              command,
              resources: [scalar('cpus', 1.9), scalar('mem', 2016), ports, ...volumes],
              ...more,
            },
          },
        ],
      },
    }),
  };
}
