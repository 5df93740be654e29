/** What is known of masters before and beside a subscription: their addresses, our credentials, what their refusals mean. */
import { Refusal } from '../errors.ts';
import type { Answer } from './http.ts';

/** The scheduler API's URL of a master given as `http(s)://host:port`. */
export function parseMaster(text: string): URL {
  if (text.startsWith('zk://')) {
    throw new Refusal('NOT_SUPPORTED', 'Following the leader through ZooKeeper is not supported; list the masters.', {
      master: text,
    });
  }
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !['http:', 'https:'].includes(url.protocol)) {
    throw new Refusal('BAD_REQUEST', 'A master is given as http://host:port', { master: text });
  }
  return new URL('/api/v1/scheduler', url);
}

export function basicAuthorization({
  principal,
  secret,
}: {
  principal: string;
  secret: string;
}): Record<string, string> {
  // Mesos splits on ':' and wants exactly two parts: such a secret never works.
  if (principal.includes(':') || secret.includes(':')) {
    throw new Refusal('BAD_REQUEST', "Neither the principal nor the secret of Mesos may contain ':'");
  }
  return { Authorization: `Basic ${Buffer.from(`${principal}:${secret}`).toString('base64')}` };
}

/** Rows 12, 14, 16 and 17 of the master's table: it does not know this subscription. 307, 404, 503: it is not the leader any more. */
export const isStale = ({ status, body }: Answer): boolean =>
  [307, 404, 503].includes(status) ||
  (status === 400 && /Framework cannot be found|Mesos-Stream-Id|stream ID/i.test(body)) ||
  (status === 403 && /not subscribed/i.test(body));

/** Where the leader is, by a 307 of another master: `//host:port/master/api/v1/scheduler`, no scheme and another path. */
export function findRedirect({ status, headers }: Answer, from: URL): URL | null {
  if (status !== 307 || headers.location === undefined || !URL.canParse(headers.location, from.href)) return null;
  const url = new URL(headers.location, from.href);
  return ['http:', 'https:'].includes(url.protocol) ? url : null;
}

/** The leader is being elected, recovers its registry, or has not installed its routes yet. */
export const isTemporary = ({ status }: Answer): boolean =>
  status === 307 || status === 404 || (status >= 500 && status !== 501);
