import { compareEvent, describe, expectedSubject, same, subjectOf } from './compare.ts';
import type { Connection } from './connection.ts';
import type { EventItem } from './golden.ts';
import { call } from './http.ts';
import { asList, asObject, asText, Bag, dig, type Json } from './resources.ts';
import type { Session } from './session.ts';

/** Recorded seconds. Offers that come later than this wait for a filter or timeout, and quiet times judge them. */
const longGap = 2.4;

/** Waits for one recorded event, compares it, and acknowledges it if the recording did so at once. */
export async function expectEvent(session: Session, item: EventItem, gap: number): Promise<void> {
  const connection = session.connections.get(item.on);
  if (!connection) return session.differ(`no connection ${item.on}`);
  if (item.event === 'OFFER' || item.event === 'RESCIND') return expectOffers(session, connection, item, gap);
  if (item.event === 'CLOSED') {
    await session.until(`the end of ${item.on}`, () => connection.closed, gap);
    return;
  }
  const event = item['again']
    ? await nextRepeat(session, connection, item, gap)
    : await nextEvent(session, connection, item, gap);
  if (event === undefined) return;
  if (item.event === 'SUBSCRIBED') bindFramework(session, connection, item, event);
  session.note(
    compareEvent(item, event, session.isReplaced(asText(item['task']))).map((text) => `${describe(item)}: ${text}`),
  );
  await acknowledge(session, connection, item, event);
}

async function nextEvent(
  session: Session,
  connection: Connection,
  item: EventItem,
  gap: number,
): Promise<Json | undefined> {
  const subject = expectedSubject(item, session.executorOf, (name) => session.ids.liveOf(`$${name}`) ?? name);
  const find = () => connection.queue.findIndex((event) => subjectOf(event, session.executorOf) === subject);
  if (!(await session.until(describe(item), () => find() >= 0, gap))) return undefined;
  return connection.queue.splice(find(), 1)[0];
}

async function nextRepeat(
  session: Session,
  connection: Connection,
  item: EventItem,
  gap: number,
): Promise<Json | undefined> {
  const id = asText(item['task'] ?? item['id']);
  const find = () => connection.repeats.findIndex((event) => JSON.stringify(event).includes(`"${id}"`));
  if (!(await session.until(`again ${describe(item)}`, () => find() >= 0, gap))) return undefined;
  return connection.repeats.splice(find(), 1)[0];
}

function bindFramework(session: Session, connection: Connection, item: EventItem, event: Json): void {
  const id = asText(dig(event, 'subscribed.framework_id.value'));
  const symbol = asText(item['framework']);
  const known = session.ids.liveOf(symbol);
  if (known !== undefined && known !== id) session.differ(`framework id changed from ${known} to ${id}`);
  session.ids.bind(symbol, id);
  connection.framework = id;
  const first = connection.types.filter((type) => type !== 'OFFERS' && !type.startsWith('UPDATE'));
  if (first[0] !== 'SUBSCRIBED') session.differ(`stream starts with ${connection.types.join(', ')}`);
}

async function acknowledge(session: Session, connection: Connection, item: EventItem, event: Json): Promise<void> {
  const status = asObject(dig(event, 'update.status') ?? dig(event, 'update_operation_status.status'));
  const uuid = status['uuid'] ?? null;
  if (item.event === 'UPDATE' && typeof uuid === 'string') session.lastUuid.set(asText(item['task']), uuid);
  if (!item['ack'] || uuid === null) return;
  const framework = { framework_id: { value: connection.framework } };
  const agent = { agent_id: status['agent_id'] ?? null };
  const body =
    item.event === 'UPDATE'
      ? { type: 'ACKNOWLEDGE', acknowledge: { ...agent, task_id: status['task_id']!, uuid } }
      : {
          type: 'ACKNOWLEDGE_OPERATION_STATUS',
          acknowledge_operation_status: { ...agent, uuid: dig(uuid, 'value')!, operation_id: status['operation_id']! },
        };
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    'mesos-stream-id': connection.streamId,
  };
  const url = new URL('/api/v1/scheduler', session.target.master());
  const answer = await call(url, { method: 'POST', headers, body: JSON.stringify({ ...framework, ...body }) });
  if (answer.status !== 202) session.differ(`acknowledgement of ${describe(item)}: ${answer.status} ${answer.body}`);
}

/** After a recorded offer or rescind exactly as much must be on offer from that agent as there was. */
async function expectOffers(session: Session, connection: Connection, item: EventItem, gap: number): Promise<void> {
  const id = asText(item['id']);
  if (item.event === 'OFFER') {
    const resources = asList(item['resources']).map(asText);
    connection.recorded.set(id, { agent: asText(item['agent']), resources });
  }
  const agent = connection.recorded.get(id)?.agent;
  if (agent === undefined) return session.differ(`recorded ${item.event} of an unknown offer ${id}`);
  if (item.event === 'RESCIND') connection.recorded.delete(id);
  const live = () => connection.liveBag(session.ids.liveOf(`$${agent}`) ?? '');
  const expected = connection.recordedBag(agent);
  let [seen, equal] = [-1, false];
  const isEqual = () => {
    if (seen !== connection.busy)
      equal = live().equals(expected) || (item.event === 'RESCIND' && connection.rescinded > connection.rescindsSeen);
    seen = connection.busy;
    return equal;
  };
  const came = await session.until(`${item.event} ${id}`, isEqual, gap);
  connection.rescindsSeen = connection.rescinded;
  if (!came) session.differ(`on offer from ${agent}: recorded ${expected}, live ${live()}`);
  else if (item.event === 'OFFER') {
    checkTime(session, connection, item);
    checkOffer(session, connection, item);
  }
}

/**
 * An offer may come some allocations later than recorded, not by a whole default filter (5 s). What was refused for less than
 * an allocation interval skips the next one all the same.
 */
function checkTime(session: Session, connection: Connection, item: EventItem): void {
  const { acted, target } = session;
  const last = session.golden.timeline.findLast(
    (other) => other.t < item.t && !('event' in other) && !('quiet' in other),
  );
  if (last && 'fault' in last) return; // agents take their own time to come back
  const recorded = item.t - acted.t;
  const elapsed = ((connection.offeredAt - acted.live) / 1000) * target.speed;
  const lost = ((session.lostMs - acted.lostMs) / 1000) * target.speed;
  const isLate = recorded < longGap && elapsed - lost > recorded + target.slackSeconds;
  const isEarly = last && 'call' in last && recorded > 1.05 && elapsed < 0.98;
  if ((isLate || isEarly) && Number.isFinite(target.slackSeconds))
    session.differ(
      `offer ${asText(item['id'])} came ${elapsed.toFixed(2)} s after the last step, recorded ${recorded.toFixed(2)} s`,
    );
}

function checkOffer(session: Session, connection: Connection, item: EventItem): void {
  const wanted = Bag.of(asList(item['resources']).map(asText));
  const offer = [...connection.live.values()].find((live) => Bag.of(live.resources).equals(wanted));
  if (!offer) return;
  connection.history.set(asText(item['id']), [offer.id]);
  if (item['keys'])
    session.note(
      same(
        'offer fields',
        item['keys'],
        offer.keys.filter((key) => key !== 'executor_ids'),
      ),
    );
  const executors = offer.executors.filter((id) => !session.isReplaced(id));
  const recorded = asList(item['executors']).map(asText);
  session.note(same('executor_ids', recorded, executors));
  if (item['keys'])
    session.note(same('first events', ['SUBSCRIBED', 'HEARTBEAT', 'OFFERS'], connection.types.slice(0, 3)));
}
