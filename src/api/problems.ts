/** Every refusal and fault as application/problem+json (RFC 9457). Never a stack, never the text of an inner fault. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ZodError, type z } from 'zod';
import { type ErrorCode, errors, Refusal } from '../errors.ts';
import type { Problem } from './schemas.ts';

const FAULTS_MAX = 100;

export interface Fault {
  readonly path: string;
  readonly message: string;
}

/** A request that is not valid, with every fault by its path. */
export class BadRequest extends Refusal {
  readonly faults: readonly Fault[];
  constructor(faults: readonly Fault[]) {
    const count = faults.length === 1 ? 'one fault' : `${faults.length} faults`;
    super('BAD_REQUEST', `The request has ${count}.`);
    this.faults = faults.slice(0, FAULTS_MAX);
  }
}

/** `part` says where a fault is when it is not in the body: `query`, `params`. */
export function toFaults(error: z.ZodError, part: string): Fault[] {
  const prefix = part === 'body' ? [] : [part];
  return error.issues.flatMap((issue) => {
    if (issue.code !== 'unrecognized_keys') return { path: toPath([...prefix, ...issue.path]), message: issue.message };
    return issue.keys.map((key) => ({ path: toPath([...prefix, ...issue.path, key]), message: 'is not known' }));
  });
}

function toPath(parts: readonly PropertyKey[]): string {
  return parts.map((part) => String(part).slice(0, 64)).join('.') || '(body)';
}

export function toProblem(
  code: ErrorCode,
  detail: string,
  more: Partial<Pick<Problem, 'faults' | 'facts'>> = {},
): Problem {
  const { status, title, todo } = errors[code];
  const type = `urn:selvedge:error:${code}`;
  return { type, title, status, detail, code, todo, faults: more.faults ?? [], facts: more.facts ?? {} };
}

/** Fastify's own refusals, by status. */
const codeByStatus: Readonly<Record<number, ErrorCode>> = {
  400: 'BAD_REQUEST',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  408: 'REQUEST_TIMEOUT',
  413: 'TOO_LARGE',
  // A part of the path longer than any name.
  414: 'NOT_FOUND',
  415: 'UNSUPPORTED_MEDIA',
  431: 'TOO_LARGE',
};

export function problemOf(error: unknown): Problem {
  if (error instanceof BadRequest) return toProblem(error.code, error.message, { faults: [...error.faults] });
  if (error instanceof Refusal) return toProblem(error.code, error.message, { facts: { ...error.facts } });
  const status = (error as Partial<FastifyError>)?.statusCode ?? 500;
  const code = status < 500 ? (codeByStatus[status] ?? 'BAD_REQUEST') : 'INTERNAL';
  if (code === 'INTERNAL') return toProblem('INTERNAL', 'Something went wrong here; it is in the log.');
  const detail = toSentence(error);
  const faults = code === 'BAD_REQUEST' ? [{ path: '(body)', message: detail }] : [];
  return toProblem(code, detail, { faults });
}

function toSentence(error: unknown): string {
  if (error instanceof SyntaxError) return 'The body is not valid JSON.';
  return error instanceof Error ? error.message.slice(0, 300) : 'The request is not valid.';
}

export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  // Serialised here: an answer's schema must never stand between a fault and its explanation.
  return reply
    .code(problem.status)
    .type('application/problem+json')
    .serializer((payload: unknown) => JSON.stringify(payload))
    .send(problem);
}

export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = problemOf(error);
  if (problem.status >= 500 && !(error instanceof Refusal))
    request.log.error({ err: error, method: request.method, route: request.routeOptions.url }, 'request failed');
  if (problem.code === 'UNAUTHORIZED') void reply.header('www-authenticate', 'Bearer');
  return sendProblem(reply, problem);
}

/** Tells a wrong method (405, with `Allow`) from a wrong path (404). Call before any route is added. */
export function answerUnknownRoutes(app: FastifyInstance): void {
  const routes: { readonly pattern: RegExp; readonly method: string }[] = [];
  app.addHook('onRoute', ({ url, method }) => {
    const pattern = new RegExp(`^${url.replace(/[.]/g, '\\.').replace(/:[a-z]+/gi, '[^/]+')}$`);
    for (const one of [method].flat()) routes.push({ pattern, method: one });
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    const allowed = [...new Set(routes.filter((route) => route.pattern.test(path)).map((route) => route.method))];
    if (allowed.length === 0 || allowed.includes(request.method))
      return sendProblem(reply, toProblem('NOT_FOUND', 'There is nothing at this path.'));
    void reply.header('allow', allowed.sort().join(', '));
    return sendProblem(reply, toProblem('METHOD_NOT_ALLOWED', `This path takes ${allowed.join(', ')}.`));
  });
}

/** Checks a part of the request; the type provider gives the handler its type. */
export function validatorCompiler({ schema, httpPart }: { schema: z.ZodType; httpPart?: string }) {
  return (data: unknown): { value: unknown } | { error: Error } => {
    const parsed = schema.safeParse(data);
    if (parsed.success) return { value: parsed.data };
    const part = httpPart === 'querystring' ? 'query' : (httpPart ?? 'body');
    return { error: new BadRequest(toFaults(parsed.error, part)) };
  };
}

/** Answers are checked too: one that does not fit its schema is a fault of ours. */
export function serializerCompiler({ schema }: { schema: unknown }) {
  return (data: unknown): string => {
    const parsed = (schema as z.ZodType).safeParse(data);
    if (parsed.success) return JSON.stringify(parsed.data);
    throw new Error('an answer does not fit its schema', { cause: new ZodError(parsed.error.issues) });
  };
}
