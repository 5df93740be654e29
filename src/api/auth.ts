/** Who may do what. Roles rise: a viewer reads, a team creates, backs up and deletes, an operator does everything. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Refusal } from '../errors.ts';

const roles = ['viewer', 'team', 'operator'] as const;
export type Role = (typeof roles)[number];

export interface Token {
  /** Noted as `requestedBy`. */
  readonly name: string;
  /** Of the token itself, hex; the token is never stored. */
  readonly sha256: string;
  readonly role: Role;
}

/** `none` is for a listener on loopback in local mode only. */
export type Auth = { readonly kind: 'none' } | { readonly kind: 'tokens'; readonly tokens: readonly Token[] };

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The least role; 'open' needs no token. Without it: viewer to read, operator to change. */
    role?: Role | 'open';
  }
  interface FastifyRequest {
    /** Name of the token that the request came with. */
    requestedBy: string;
  }
}

export function requireAuth(app: FastifyInstance, auth: Auth): void {
  app.decorateRequest('requestedBy', '');
  app.addHook('onRequest', async (request) => {
    const needed = request.routeOptions.config?.role ?? (isRead(request) ? 'viewer' : 'operator');
    if (needed === 'open') return;
    if (auth.kind === 'none') {
      checkHost(request);
      request.requestedBy = 'local';
      return;
    }
    const token = findToken(auth.tokens, request.headers.authorization);
    if (!token) throw new Refusal('UNAUTHORIZED', 'The request carries no token that is known.');
    if (roles.indexOf(token.role) < roles.indexOf(needed))
      throw new Refusal('FORBIDDEN', `This needs the role ${needed}; the token has ${token.role}.`);
    request.requestedBy = token.name;
  });
}

function isRead(request: FastifyRequest): boolean {
  return request.method === 'GET' || request.method === 'HEAD';
}

/** Without tokens any web page could reach us by a name that it points to 127.0.0.1 (DNS rebinding). */
function checkHost(request: FastifyRequest): void {
  const host = request.headers.host?.replace(/:\d+$/, '') ?? '';
  if (!/^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i.test(host))
    throw new Refusal('FORBIDDEN', 'Without tokens only requests to a loopback address are answered.');
}

function findToken(tokens: readonly Token[], header: string | undefined): Token | undefined {
  const given = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(header ?? '')?.[1];
  if (given === undefined) return undefined;
  const digest = createHash('sha256').update(given).digest();
  // All are compared, in constant time each: the time taken says nothing.
  return tokens.filter((token) => isSame(digest, Buffer.from(token.sha256, 'hex')))[0];
}

function isSame(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}
