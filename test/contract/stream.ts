import { same } from './compare.ts';
import { Connection, type LiveOffer } from './connection.ts';
import type { CallItem } from './golden.ts';
import { type Outgoing, openStream } from './http.ts';
import { rootsOf } from './ids.ts';
import { asList, asText, Bag, dig, type Json } from './resources.ts';
import type { Session } from './session.ts';

/** Opens a recorded event stream; its records are sorted as they come. */
export async function openConnection(session: Session, item: CallItem, url: URL, out: Outgoing): Promise<void> {
  const connection = new Connection(item.opens!);
  session.connections.set(connection.name, connection);
  const opened = await openStream(url, out, {
    onRecord: (record) => onRecord(session, connection, record as Json),
    onEnd: () => {
      connection.closed = true;
      connection.busy++;
    },
  });
  connection.drop = opened.drop;
  session.note(same('status', item.status, opened.status));
  connection.streamId = asText(opened.headers['mesos-stream-id'] as Json);
  if (!connection.streamId) session.differ('no Mesos-Stream-Id');
  session.note(same('content-type', 'application/json', opened.headers['content-type'] as Json));
}

function onRecord(session: Session, connection: Connection, event: Json): void {
  const type = asText(dig(event, 'type'));
  connection.types.push(type);
  if (type === 'HEARTBEAT') return;
  if (type === 'UPDATE' && isRepeat(session, dig(event, 'update.status.uuid'))) connection.repeats.push(event);
  else if (
    type === 'UPDATE_OPERATION_STATUS' &&
    isRepeat(session, dig(event, 'update_operation_status.status.uuid.value'))
  )
    connection.repeats.push(event);
  else if (type === 'OFFERS') {
    connection.offeredAt = performance.now();
    for (const offer of connection.onOffers(event)) meetAgent(session, offer);
  } else if (type === 'RESCIND') {
    connection.live.delete(asText(dig(event, 'rescind.offer_id.value')));
    connection.rescinded++;
  } else if (type === 'FAILURE' && session.isReplaced(asText(dig(event, 'failure.executor_id.value')))) return;
  else connection.queue.push(event);
  connection.busy++;
}

function isRepeat(session: Session, uuid: Json | undefined): boolean {
  if (typeof uuid !== 'string') return false;
  if (session.uuids.has(uuid)) return true;
  session.uuids.add(uuid);
  return false;
}

/** An agent is known by the resources of its first offer: they are those of one recorded agent. */
function meetAgent(session: Session, offer: LiveOffer): void {
  if (session.ids.symbolOf(offer.agent) !== undefined) return;
  for (const [name, agent] of Object.entries(session.golden.agents)) {
    if (session.ids.liveOf(`$${name}`) !== undefined || !Bag.of(agent.resources).equals(Bag.of(offer.resources)))
      continue;
    session.ids.bind(`$${name}`, offer.agent);
    session.ids.roots.set(name, rootsOf(asList(dig(offer.raw, 'resources'))));
    return;
  }
  session.differ(`offer of an unknown agent: ${offer.resources.join('; ')}`);
}
