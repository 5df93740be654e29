/** Which answer a request gets, in the order of the real handlers: the first row that matches wins. */
import type { z } from 'zod';
import { type ExecutorCall, executorCall } from '../../executor-api.ts';
import { type SchedulerCall, schedulerCall } from '../../scheduler-api.ts';
import { type AgentCore, type ExecutorRecord, findExecutor, keyOf } from './agent-state.ts';
import type { Framework, Master } from './master-state.ts';
import { isUuid4 } from './updates.ts';

export interface HttpRequest {
  readonly method: string;
  readonly contentType: string | undefined;
  readonly accept: string | undefined;
  readonly streamId: string | undefined;
  readonly authorization: string | undefined;
  readonly body: string;
}

export interface HttpAnswer {
  readonly kind: 'answer';
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface MasterDoor {
  /** Principal to secret; null: nobody is asked. */
  readonly credentials: Readonly<Record<string, string>> | null;
  readonly phase:
    | { readonly kind: 'leading' }
    | { readonly kind: 'recovering' }
    | { readonly kind: 'redirecting'; readonly to: string | null };
}

type Subscribe = Extract<SchedulerCall, { type: 'SUBSCRIBE' }>;
export type SchedulerDecision =
  | HttpAnswer
  | { readonly kind: 'subscribe'; readonly call: Subscribe; readonly principal: string | null }
  | { readonly kind: 'call'; readonly framework: Framework; readonly call: Exclude<SchedulerCall, Subscribe> };

export const answer = (status: number, body: string, headers?: Record<string, string>): HttpAnswer => ({
  kind: 'answer',
  status,
  body,
  ...(headers ? { headers } : {}),
});

const MEDIA_TEXT = "Expecting 'Content-Type' of application/json or application/x-protobuf";

/** Principal, or the 401. A secret with a colon in it never works. */
export function authenticate(
  { credentials }: MasterDoor,
  authorization: string | undefined,
  realm: string,
): { principal: string | null } | HttpAnswer {
  if (credentials === null) return { principal: null };
  const refused = answer(401, '401 Unauthorized.', { 'WWW-Authenticate': `Basic realm="${realm}"` });
  const match = /^Basic +([A-Za-z0-9+/=]+)$/.exec(authorization ?? '');
  if (!match) return refused;
  const parts = Buffer.from(match[1]!, 'base64').toString('utf8').split(':');
  const [principal, secret] = parts;
  if (parts.length !== 2 || principal === undefined || !Object.hasOwn(credentials, principal)) return refused;
  return credentials[principal] === secret ? { principal } : refused;
}

export function redirectOrRecover({ phase }: MasterDoor, path: string): HttpAnswer | null {
  if (phase.kind === 'recovering') return answer(503, 'Master has not finished recovery');
  if (phase.kind === 'leading') return null;
  if (phase.to === null) return answer(503, 'No leader elected');
  // Without a scheme, and with /master in front, as the real one says it.
  return answer(307, '', { Location: `//${phase.to}${path.startsWith('/master') ? path : `/master${path}`}` });
}

/** Method, Content-Type, JSON: rows 4 to 7. */
export function readBody(request: HttpRequest): { json: unknown } | HttpAnswer {
  if (request.method !== 'POST')
    return answer(405, `405 Method Not Allowed. Expecting one of { 'POST' }, but received '${request.method}'.`, {
      Allow: 'POST',
    });
  if (request.contentType === undefined) return answer(400, "Expecting 'Content-Type' to be present");
  if (request.contentType === 'application/x-protobuf')
    return answer(415, `${MEDIA_TEXT} (mesos-local speaks JSON only)`);
  // Exactly: a charset behind it is another type.
  if (request.contentType !== 'application/json') return answer(415, MEDIA_TEXT);
  try {
    const json: unknown = JSON.parse(request.body);
    if (json === null || typeof json !== 'object' || Array.isArray(json))
      return answer(400, 'Failed to parse body into JSON: expecting an object');
    return { json: withoutNulls(json) };
  } catch {
    return answer(400, 'Failed to parse body into JSON: syntax error at line 1 near: ');
  }
}

/** null means that the field is not set. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((item) => item !== null).map(withoutNulls);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== null)
      .map(([key, inner]) => [key, withoutNulls(inner)]),
  );
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      value !== null && typeof value === 'object' ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    json,
  );
}

/** Missing at the top: the validator speaks; deeper: the conversion to protobuf does. */
export function explainIssues(json: unknown, issues: readonly z.core.$ZodIssue[], what: string): HttpAnswer {
  const kind = what.slice(what.lastIndexOf(':') + 1);
  const missing = issues.filter(({ path }) => valueAt(json, path) === undefined).map(({ path }) => path);
  const top = missing.find((path) => path.length <= 1);
  const typeFault = issues.find(({ path }) => path.length === 1 && path[0] === 'type');
  if (typeFault || (top && top.length === 0))
    return answer(400, `Failed to validate ${what}: Expecting 'type' to be present`);
  const deep = missing.filter((path) => path.length > 1).map((path) => path.map(String).join('.'));
  if (deep.length > 0)
    return answer(400, `Failed to convert JSON into ${kind} protobuf: Missing required fields: ${deep.join(', ')}`);
  if (top) return answer(400, `Failed to validate ${what}: Expecting '${String(top[0])}' to be present`);
  const first = issues[0];
  return answer(
    400,
    `Failed to convert JSON into ${kind} protobuf: ${first?.path.map(String).join('.')}: ${first?.message}`,
  );
}

const acceptsJson = (accept: string | undefined): boolean =>
  accept === undefined || /(^|,)\s*(application\/json|application\/\*|\*\/\*)\s*(;|,|$)/.test(accept);

function findCallFault(call: SchedulerCall, principal: string | null): string | null {
  if (call.type === 'SUBSCRIBE') {
    const { framework_info } = call.subscribe;
    if ((call.framework_id?.value ?? '') !== (framework_info.id?.value ?? ''))
      return "'framework_id' differs from 'subscribe.framework_info.id'";
    if (principal !== null && framework_info.principal !== undefined && framework_info.principal !== principal)
      return `Authenticated principal '${principal}' does not match principal '${framework_info.principal}' set in \`FrameworkInfo\``;
    return null;
  }
  if (call.type === 'ACKNOWLEDGE' && !isUuid4(call.acknowledge.uuid)) return 'Not a valid UUID';
  if (call.type === 'ACKNOWLEDGE_OPERATION_STATUS') {
    if (!isUuid4(call.acknowledge_operation_status.uuid)) return 'Not a valid UUID';
    if (!call.acknowledge_operation_status.agent_id) return "Expecting 'agent_id' to be present";
  }
  return null;
}

/** `POST /api/v1/scheduler`. */
export function decideSchedulerRequest(
  master: Master,
  door: MasterDoor,
  path: string,
  request: HttpRequest,
): SchedulerDecision {
  const who = authenticate(door, request.authorization, 'mesos-master-scheduler');
  if ('kind' in who) return who;
  const elsewhere = redirectOrRecover(door, path);
  if (elsewhere) return elsewhere;
  const body = readBody(request);
  if ('kind' in body) return body;
  const parsed = schedulerCall.safeParse(body.json);
  if (!parsed.success) return explainIssues(body.json, parsed.error.issues, 'scheduler::Call');
  const call = parsed.data;
  const { principal } = who;
  const fault = findCallFault(call, principal);
  if (fault) return answer(400, `Failed to validate scheduler::Call: ${fault}`);
  if ((call.type === 'SUBSCRIBE' || call.type === 'RECONCILE_OPERATIONS') && !acceptsJson(request.accept))
    return answer(
      406,
      "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio",
    );
  if (call.type === 'SUBSCRIBE')
    return request.streamId === undefined
      ? { kind: 'subscribe', call, principal }
      : answer(400, "Subscribe calls should not include the 'Mesos-Stream-Id' header");
  return checkFramework(master, call, principal, request.streamId);
}

function checkFramework(
  master: Master,
  call: Exclude<SchedulerCall, Subscribe>,
  principal: string | null,
  streamId: string | undefined,
): SchedulerDecision {
  const id = call.framework_id.value;
  const framework = master.frameworks.get(id);
  if (!framework) return answer(400, 'Framework cannot be found');
  if (principal !== null && principal !== framework.principal)
    return answer(
      400,
      `Authenticated principal '${principal}' does not match principal '${framework.principal}' set in \`FrameworkInfo\``,
    );
  if (framework.streamId === null) return answer(403, 'Framework is not subscribed');
  if (streamId === undefined) return answer(400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header");
  if (streamId !== framework.streamId)
    return answer(
      400,
      `The stream ID '${streamId}' included in this request didn't match the stream ID currently associated with framework ID ${id}`,
    );
  return { kind: 'call', framework, call };
}

export type ExecutorDecision =
  | HttpAnswer
  | { readonly kind: 'executor'; readonly executor: ExecutorRecord; readonly call: ExecutorCall };

/** `POST /api/v1/executor` on an agent. */
export function decideExecutorRequest(agent: AgentCore, request: HttpRequest): ExecutorDecision {
  if (agent.phase === 'stopped') return answer(503, 'Agent has not finished recovery');
  const body = readBody(request);
  if ('kind' in body) return body;
  if (!acceptsJson(request.accept))
    return answer(406, "Expecting 'Accept' to allow application/json or application/x-protobuf");
  const parsed = executorCall.safeParse(body.json);
  if (!parsed.success) return explainIssues(body.json, parsed.error.issues, 'executor::Call');
  const call = parsed.data;
  if (agent.phase === 'recovering' && call.type !== 'SUBSCRIBE') return answer(503, 'Agent has not finished recovery');
  const fault = findExecutorCallFault(call);
  if (fault) return answer(400, `Failed to validate executor::Call: ${fault}`);
  if (call.type === 'HEARTBEAT') return answer(202, '');
  const frameworkId = call.framework_id.value;
  if (!agent.checkpoint.frameworks[frameworkId]) return answer(400, 'Framework cannot be found');
  const executor = findExecutor(agent, frameworkId, call.executor_id.value);
  if (!executor || executor.isGone) return answer(400, 'Executor cannot be found');
  if (call.type !== 'SUBSCRIBE' && (agent.live.get(keyOf(executor))?.streamId ?? null) === null)
    return answer(403, 'Executor is not subscribed');
  return { kind: 'executor', executor, call };
}

function findExecutorCallFault(call: ExecutorCall): string | null {
  if (call.type === 'SUBSCRIBE') {
    const bad = call.subscribe.unacknowledged_updates.some(({ status }) => !isUuid4(status.uuid ?? ''));
    return bad ? 'Not a valid UUID' : null;
  }
  if (call.type !== 'UPDATE') return null;
  const { status } = call.update;
  if (status.uuid === undefined) return "Expecting 'uuid' to be present";
  if (!isUuid4(status.uuid)) return 'Not a valid UUID';
  if (status.executor_id && status.executor_id.value !== call.executor_id.value)
    return `ExecutorID in Call: ${call.executor_id.value} does not match ExecutorID in TaskStatus: ${status.executor_id.value}`;
  if (status.source !== 'SOURCE_EXECUTOR')
    return `Received Call from executor ${call.executor_id.value} of framework ${call.framework_id.value} with invalid source, expecting 'SOURCE_EXECUTOR'`;
  if (status.state === 'TASK_STAGING') return 'Received TASK_STAGING from executor which is not allowed';
  return null;
}
