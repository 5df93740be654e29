import { missingPhrase } from './gist.ts';
import type { EventItem } from './golden.ts';
import { asList, asObject, asText, dig, type Json } from './resources.ts';

const statusFields = ['agent_id', 'executor_id', 'uuid', 'unreachable_time', 'healthy', 'data', 'labels'];

/** Whom an event is about. Order is compared per subject; a task and its executor are one. */
export function subjectOf(event: Json, executorOf: (task: string) => string): string {
  switch (dig(event, 'type')) {
    case 'UPDATE':
      return `executor ${executorOf(asText(dig(event, 'update.status.task_id.value')))}`;
    case 'FAILURE': {
      const executor = dig(event, 'failure.executor_id.value');
      return executor === undefined
        ? `agent ${asText(dig(event, 'failure.agent_id.value'))}`
        : `executor ${asText(executor)}`;
    }
    case 'UPDATE_OPERATION_STATUS':
      return `operation ${asText(dig(event, 'update_operation_status.status.operation_id.value'))}`;
    case 'MESSAGE':
      return `executor ${asText(dig(event, 'message.executor_id.value'))}`;
    default:
      return 'stream';
  }
}

export function expectedSubject(
  item: EventItem,
  executorOf: (task: string) => string,
  idOf: (symbol: string) => string,
): string {
  switch (item.event) {
    case 'UPDATE':
      return `executor ${executorOf(asText(item['task']))}`;
    case 'FAILURE':
      return item['executor'] === undefined
        ? `agent ${idOf(asText(item['agent']))}`
        : `executor ${asText(item['executor'])}`;
    case 'OPERATION':
      return `operation ${asText(item['id'])}`;
    case 'MESSAGE':
      return `executor ${asText(item['executor'])}`;
    default:
      return 'stream';
  }
}

/** Differences between a recorded and a live event, as short texts. `isReplaced`: the task was a command task. */
export function compareEvent(item: EventItem, live: Json, isReplaced: boolean): string[] {
  const type = item.event === 'OPERATION' ? 'UPDATE_OPERATION_STATUS' : item.event;
  if (dig(live, 'type') !== type) return [`recorded ${describe(item)}, live ${brief(live)}`];
  switch (item.event) {
    case 'UPDATE':
      return compareStatus(item, dig(live, 'update.status'), 'task_id', statusFields, isReplaced);
    case 'OPERATION':
      return compareStatus(
        item,
        dig(live, 'update_operation_status.status'),
        'operation_id',
        ['agent_id', 'uuid'],
        false,
      );
    case 'FAILURE':
      return same('status', item['status'], dig(live, 'failure.status'));
    case 'MESSAGE':
      return same('data', item['data'], Buffer.from(asText(dig(live, 'message.data')), 'base64').toString());
    case 'ERROR':
      return gist(item, asText(dig(live, 'error.message')));
    case 'SUBSCRIBED':
      return compareSubscribed(item, dig(live, 'subscribed'));
    default:
      return [];
  }
}

function compareStatus(
  item: EventItem,
  status: Json | undefined,
  idField: string,
  fields: string[],
  isReplaced: boolean,
) {
  const has = fields.filter((field) => asObject(status)[field] !== undefined).sort();
  const skip = (field: Json) => !(isReplaced && field === 'executor_id');
  const expectedId = idField === 'task_id' ? item['task'] : item['id'];
  return [
    ...same(idField, expectedId, dig(status, `${idField}.value`)),
    ...same('state', item['state'], dig(status, 'state')),
    ...same('source', item['source'], dig(status, 'source')),
    ...same('reason', item['reason'], dig(status, 'reason')),
    ...same('fields', asList(item['has']).filter(skip), has.filter(skip)),
    ...(item['message'] === undefined ? [] : same('message', item['message'], dig(status, 'message'))),
    ...gist(item, asText(dig(status, 'message'))),
  ];
}

function compareSubscribed(item: EventItem, live: Json | undefined): string[] {
  const missing = asList(item['keys']).filter((key) => asObject(live)[asText(key)] === undefined);
  const master = asObject(dig(live, 'master_info'));
  const missingMaster = asList(item['master']).filter((key) => master[asText(key)] === undefined);
  return [
    ...(missing.length > 0 ? [`SUBSCRIBED without ${missing.join(', ')}`] : []),
    ...(missingMaster.length > 0 ? [`master_info without ${missingMaster.join(', ')}`] : []),
    ...same('heartbeat_interval_seconds', item['heartbeat'], dig(live, 'heartbeat_interval_seconds')),
  ];
}

function gist(item: EventItem, text: string): string[] {
  const phrase = missingPhrase(text, asList(item['gist']).map(asText));
  return phrase === undefined ? [] : [`text lacks "${phrase}", live "${text.slice(0, 300)}"`];
}

export function same(what: string, expected: Json | undefined, actual: Json | undefined): string[] {
  const [left, right] = [JSON.stringify(expected), JSON.stringify(actual)];
  return left === right ? [] : [`${what}: recorded ${left}, live ${right}`];
}

export function describe(item: EventItem): string {
  const { t, on, keys, master, has, resources, gist: phrases, ...rest } = item;
  return JSON.stringify(rest);
}

export function brief(live: Json): string {
  return JSON.stringify(live).slice(0, 400);
}
