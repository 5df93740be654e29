import { brief, same } from './compare.ts';
import type { Connection } from './connection.ts';
import { missingPhrase } from './gist.ts';
import type { CallItem } from './golden.ts';
import { type Answer, call, type Outgoing } from './http.ts';
import { fill, launchedTasks } from './ids.ts';
import { project } from './projection.ts';
import { RecordReader } from './recordio.ts';
import { asList, asObject, asText, Bag, dig, type Json, type JsonObject } from './resources.ts';
import type { Session } from './session.ts';
import { openConnection } from './stream.ts';

/** Sends one recorded call and compares the answer. */
export async function doCall(session: Session, item: CallItem): Promise<void> {
  session.at = `${session.golden.scenario} ${item.t} ${item.call}`;
  const out = outgoing(session, item);
  const url = new URL(item.path ?? '/api/v1/scheduler', session.target.master());
  if (item.opens && item.status === 200) return openConnection(session, item, url, out);
  checkAnswer(session, item, await call(url, out));
}

function outgoing(session: Session, item: CallItem): Outgoing {
  const connection = item.stream === undefined ? undefined : session.connections.get(item.stream);
  const streamId = connection ? { 'mesos-stream-id': connection.streamId } : {};
  const login = item.login?.replace('$SECRET', session.target.secret);
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    ...streamId,
    ...(login ? { authorization: `Basic ${Buffer.from(login).toString('base64')}` } : {}),
    ...item.headers,
  };
  const method = item.method ?? 'POST';
  const body = item.body ? JSON.stringify(bodyOf(session, item.body, connection)) : (item.text ?? '');
  return { method, headers, body };
}

function bodyOf(session: Session, body: JsonObject, connection: Connection | undefined): Json {
  const kind = asText(body['type']).toLowerCase();
  const symbols = asList(dig(body, `${kind}.offer_ids`)).map((id) => asText(dig(id, 'value')).slice(1));
  const agent = symbols.map((symbol) => connection?.recorded.get(symbol)?.agent).find(Boolean);
  for (const task of launchedTasks(body)) if (!session.launched.has(task.task)) session.launched.set(task.task, task);
  const words: Record<string, string> = { $EXECUTOR: session.target.executorCommand };
  for (const [task, uuid] of session.lastUuid) words[`$uuid ${task}`] = uuid;
  const named = JSON.stringify(body).match(/\$(A\d+)/)?.[1];
  const filled = asObject(fill(body, session.ids, agent ?? named ?? 'A1', words));
  if (connection && asObject(body[kind])['offer_ids'] !== undefined) {
    const ids = connection.take(symbols, (symbol) => session.ids.liveOf(`$${symbol}`));
    const fields = asObject(filled[kind]);
    const offers = { ...fields, offer_ids: ids.map((value) => ({ value })) };
    return { ...withControl(filled, session.control.port), [kind]: withControl(offers, session.control.port) };
  }
  return filled;
}

function checkAnswer(session: Session, item: CallItem, answer: Answer): void {
  session.note(same('status', item.status, answer.status));
  for (const [name, value] of Object.entries(item.answerHeaders ?? {}))
    session.note(same(name, value, asText(answer.headers[name] as Json)));
  const phrase = missingPhrase(answer.body, item.gist ?? []);
  if (phrase !== undefined) session.differ(`text lacks "${phrase}", live "${answer.body.slice(0, 300)}"`);
  if (item.status === 202 && answer.body !== '') session.differ(`202 with a body: ${answer.body.slice(0, 100)}`);
  if (item.record) checkRecord(session, item.record, answer);
  if (item.answer && answer.status === 200) checkProjection(session, item.answer, answer.body);
}

function checkRecord(session: Session, record: JsonObject, answer: Answer): void {
  const [live] = new RecordReader().push(Buffer.from(answer.body)) as Json[];
  if (!answer.headers['mesos-stream-id']) session.differ('no Mesos-Stream-Id');
  const phrase = missingPhrase(asText(dig(live, 'error.message')), [asText(dig(record, 'error.message'))]);
  session.note(same('type', record['type'], dig(live, 'type')));
  if (phrase !== undefined) session.differ(`text lacks "${phrase}", live "${brief(live ?? null)}"`);
}

function checkProjection(session: Session, expected: JsonObject, body: string): void {
  const live = session.ids.toSymbols(project(JSON.parse(body) as Json) ?? {});
  for (const [field, value] of Object.entries(expected)) {
    if (field !== 'agents') session.note(same(field, value, ownOf(asObject(live)[field])));
  }
  if (expected['agents'] === undefined) return;
  const byId = new Map(asList(dig(live, 'agents')).map((agent) => [asText(dig(agent, 'id')), agent]));
  session.note(same('agents', asList(expected['agents']).length, byId.size));
  for (const agent of asList(expected['agents']))
    checkAgent(session, asObject(agent), byId.get(asText(dig(agent, 'id'))));
}

/** Frameworks and tasks of other scenarios on the same master have no symbols. */
function ownOf(value: Json | undefined): Json | undefined {
  if (!Array.isArray(value)) return value;
  return value.filter((item) => (typeof item === 'string' ? item : asText(dig(item, 'id'))).startsWith('$'));
}

function checkAgent(session: Session, expected: JsonObject, live: Json | undefined): void {
  for (const field of ['active', 'deactivated', 'drain'])
    session.note(same(field, expected[field], asObject(live)[field]));
  for (const field of ['total', 'allocated']) {
    const [left, right] = [expected[field], asObject(live)[field]].map((list) => Bag.of(asList(list).map(asText)));
    if (!left!.equals(right!)) session.differ(`${field} of ${asText(expected['id'])}: recorded ${left}, live ${right}`);
  }
}

/** Adds the port of the test to the environment of every executor in an ACCEPT. */
function withControl(value: JsonObject, port: number): JsonObject {
  return JSON.parse(JSON.stringify(value), (key, item: Json) => {
    if (key !== 'command') return item;
    const variables = asList(dig(item, 'environment.variables'));
    const control = { name: 'SELVEDGE_CONTROL', value: String(port) };
    return { ...asObject(item), environment: { variables: [...variables, control] } };
  }) as JsonObject;
}
