/** The REST API as a team's program uses it: plain HTTP, answers typed by the API's own schemas. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import type { verificationView } from '../../src/api/backup-schemas.ts';
import type { restoreList, restorePlanView, restoreView } from '../../src/api/restore-schemas.ts';
import type * as schemas from '../../src/api/schemas.ts';
import { createEndpoints, type Endpoint, type Endpoints } from './endpoints.ts';

type Answer<K extends keyof typeof schemas> = (typeof schemas)[K] extends z.ZodType
  ? z.output<(typeof schemas)[K]>
  : never;
export type ClusterAnswer = Answer<'clusterView'>;
export type FailoverAnswer = Answer<'failoverView'>;
export type BackupAnswer = Answer<'backupView'>;
export type ReservationAnswer = Answer<'reservationView'>;
export type EndpointsAnswer = Answer<'endpointsView'>;

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, detail: string) {
    super(`${status} ${code}: ${detail}`);
    this.status = status;
    this.code = code;
  }
}

const requestTimeoutMs = 5_000;

/** Throws ApiError for every answer that is not 2xx, and what fetch throws when there is none within 5 s. */
async function request<T>(url: string, method = 'GET', body?: unknown): Promise<T> {
  const response = await fetch(url, {
    method,
    signal: AbortSignal.timeout(requestTimeoutMs),
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
  const json = (await response.json()) as T & { readonly code?: string; readonly detail?: string };
  if (!response.ok) throw new ApiError(response.status, json.code ?? '', json.detail ?? '');
  return json;
}

export type Api = ReturnType<typeof createApiClient>;

export function createApiClient(baseUrl: string) {
  const cluster = (name: string) => `${baseUrl}/v1/clusters/${name}`;
  return {
    create: (body: unknown) => request<Answer<'createdView'>>(`${baseUrl}/v1/clusters`, 'POST', body),
    cluster: (name: string) => request<ClusterAnswer>(cluster(name)),
    /** Automatic failovers may happen again at once. */
    releaseCooldown: (name: string) => request<unknown>(cluster(name), 'PATCH', { cooldown: null }),
    setAutomation: (name: string, mode: 'on' | 'off') =>
      request<unknown>(cluster(name), 'PATCH', { automation: { mode } }),
    remove: (name: string) => request<ClusterAnswer>(cluster(name), 'DELETE'),
    /** Deletes it but for its volumes. */
    retain: (name: string) => request<ClusterAnswer>(`${cluster(name)}?retainVolumes=true`, 'DELETE'),
    purge: (name: string, confirm: string) => request<ClusterAnswer>(`${cluster(name)}/purge`, 'POST', { confirm }),
    endpoints: (name: string) => request<EndpointsAnswer>(`${cluster(name)}/endpoints`),
    failovers: async (name: string) => (await request<Answer<'failoverList'>>(`${cluster(name)}/failovers`)).failovers,
    changePrimary: (name: string, body: unknown) => request<FailoverAnswer>(`${cluster(name)}/failovers`, 'POST', body),
    setBackupPolicy: (name: string, policy: object) =>
      request<unknown>(`${cluster(name)}/backup-policy`, 'PUT', policy),
    backUp: (name: string, member: number) => request<BackupAnswer>(`${cluster(name)}/backups`, 'POST', { member }),
    backup: (name: string, id: string) => request<BackupAnswer>(`${cluster(name)}/backups/${id}`),
    verify: (name: string, id: string) =>
      request<z.output<typeof verificationView>>(`${cluster(name)}/backups/${id}/verify`, 'POST'),
    verification: (name: string, id: string) =>
      request<z.output<typeof verificationView>>(`${cluster(name)}/verifications/${id}`),
    restore: (name: string, body: object) =>
      request<z.output<typeof restoreView>>(`${cluster(name)}/restore`, 'POST', body),
    planRestore: (name: string, body: object) =>
      request<z.output<typeof restorePlanView>>(`${cluster(name)}/restore?dryRun=true`, 'POST', body),
    restoreOf: (name: string, id: string) => request<z.output<typeof restoreView>>(`${cluster(name)}/restores/${id}`),
    restores: async (name: string) =>
      (await request<z.output<typeof restoreList>>(`${cluster(name)}/restores`)).restores,
    rebuild: (name: string, member: number) =>
      request<Answer<'rebuildView'>>(`${cluster(name)}/members/${member}/rebuild`, 'POST', {}),
    rebuilds: async (name: string) => (await request<Answer<'rebuildList'>>(`${cluster(name)}/rebuilds`)).rebuilds,
    reservations: async () =>
      (await request<Answer<'reservationList'>>(`${baseUrl}/v1/reservations`)).reservations as ReservationAnswer[],
    events: async (limit: number) => (await request<Answer<'eventList'>>(`${baseUrl}/v1/events?limit=${limit}`)).events,
    watchUrl: (name: string) => `${cluster(name)}/endpoints?watch=true`,
  };
}

const watchPauseMs = 100;
/** A client that asks again and again takes the processor from those who are busy for it. */
const askPauseMs = 50;

/**
 * The current endpoints: told by the watch stream, and asked for when the writer is in trouble. While the API is away
 * the last known ones stay.
 */
export function watchEndpoints(api: Api, name: string): { readonly endpoints: Endpoints; stop(): void } {
  const stopped = new AbortController();
  let isAsking = false;
  let epoch = -1;
  const known = createEndpoints(() => {
    if (isAsking) return;
    isAsking = true;
    const mayAskAgain = () => {
      isAsking = false;
    };
    api
      .endpoints(name)
      .then(take, () => {})
      .finally(() => setTimeout(mayAskAgain, askPauseMs));
  });
  /** An answer that was under way when a newer one came must not undo it. */
  const take = (view: EndpointsAnswer) => {
    if (view.epoch < epoch) return;
    epoch = view.epoch;
    known.set(view.primary && placeOf(view.primary), view.replicas.map(placeOf));
  };
  void (async () => {
    while (!stopped.signal.aborted) {
      try {
        await readStream(api.watchUrl(name), stopped.signal, take);
      } catch {
        // the API is away: ask again soon
      }
      await sleep(watchPauseMs);
    }
  })();
  return { endpoints: known, stop: () => stopped.abort() };
}

const placeOf = ({ ordinal, host, port }: Endpoint): Endpoint => ({ ordinal, host, port });

/** Server-sent events of one connection; returns when it ends. */
async function readStream(url: string, signal: AbortSignal, take: (view: EndpointsAnswer) => void): Promise<void> {
  const response = await fetch(url, { signal });
  if (!response.ok || !response.body) throw new Error(`the stream answered ${response.status}`);
  let text = '';
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const messages = text.split('\n\n');
    text = messages.pop() ?? '';
    for (const message of messages) {
      if (!/^event: endpoints$/m.test(message)) continue;
      const data = /^data: (.*)$/m.exec(message)?.[1];
      if (data) take(JSON.parse(data) as EndpointsAnswer);
    }
  }
}
