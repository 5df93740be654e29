/** The API as the proxy reads it: the list of clusters, and a stream of endpoints for each. */
import { z } from 'zod';
import { clusterSummary, endpointsView } from '../api/schemas.ts';
import type { Clock } from '../clock.ts';
import type { Endpoints } from './routes.ts';

const REQUEST_TIMEOUT_MS = 3_000;
/** The API says something on every stream each 15 s. */
const SILENCE_MS = 40_000;
const MESSAGE_LENGTH_MAX = 1024 * 1024;
const ANSWER_LENGTH_MAX = 64 * 1024 * 1024;

// Only what is needed, so that a newer API with more states is understood, too.
const list = z.object({
  clusters: z.array(
    clusterSummary.pick({ id: true, name: true, servicePort: true }).extend({
      name: z.string().regex(/^[a-z][a-z0-9-]{0,62}$/),
      servicePort: z.int().min(1).max(65_535).nullable(),
      spec: z.object({ members: z.int().min(1).max(64) }),
    }),
  ),
});
const port = z.int().min(1).max(65_535);
const endpoint = z.object({ ordinal: z.int().min(0), host: z.ipv4(), port, healthPort: port });
const endpoints = endpointsView
  .pick({ epoch: true })
  .extend({ primary: endpoint.nullable(), replicas: z.array(endpoint) });

export interface ListedCluster {
  readonly id: string;
  readonly name: string;
  readonly servicePort: number;
  readonly members: number;
}

export interface ApiClient {
  /** Clusters that live. Rejects when there is no answer in time, or another one. */
  list(): Promise<ListedCluster[]>;
  /** Calls `onTold` for each change until the stream ends. Resolves or rejects at its end. */
  follow(clusterId: string, signal: AbortSignal, onTold: (told: Endpoints) => void): Promise<void>;
}

export function createApiClient(options: {
  /** Without a slash at the end. */
  readonly url: string;
  readonly token: string | undefined;
  readonly clock: Clock;
}): ApiClient {
  const { url, token, clock } = options;
  const get = (path: string, signal: AbortSignal) =>
    fetch(`${url}${path}`, {
      headers: token ? { authorization: `Bearer ${token}` } : {},
      redirect: 'error',
      signal,
    });
  return {
    async list() {
      const abort = new AbortController();
      const timer = clock.setTimeout(() => abort.abort(new Error('no answer in time')), REQUEST_TIMEOUT_MS);
      try {
        const response = await get('/v1/clusters', abort.signal);
        if (!response.ok) throw new Error(`the API answered ${response.status}`);
        const text = await response.text();
        if (text.length > ANSWER_LENGTH_MAX) throw new Error('the answer is too long');
        return list
          .parse(JSON.parse(text))
          .clusters.flatMap(({ servicePort, spec, ...rest }) =>
            servicePort === null ? [] : [{ ...rest, servicePort, members: spec.members }],
          );
      } finally {
        clock.clearTimeout(timer);
      }
    },

    async follow(clusterId, signal, onTold) {
      const silence = new AbortController();
      const expire = () => silence.abort(new Error('the stream is silent'));
      let timer = clock.setTimeout(expire, REQUEST_TIMEOUT_MS);
      try {
        const path = `/v1/clusters/${encodeURIComponent(clusterId)}/endpoints?watch=true`;
        const response = await get(path, AbortSignal.any([signal, silence.signal]));
        if (!response.ok || !response.body) throw new Error(`the API answered ${response.status}`);
        let rest = '';
        for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
          clock.clearTimeout(timer);
          timer = clock.setTimeout(expire, SILENCE_MS);
          rest += part;
          if (rest.length > MESSAGE_LENGTH_MAX) throw new Error('the stream is not understood');
          const messages = rest.split('\n\n');
          rest = messages.pop() ?? '';
          for (const message of messages) {
            const data = /^event: endpoints\n(?:.*\n)*?data: (.*)$/m.exec(message)?.[1];
            if (data !== undefined) onTold(endpoints.parse(JSON.parse(data)));
          }
        }
      } finally {
        clock.clearTimeout(timer);
      }
    },
  };
}
