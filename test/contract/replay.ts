/**
 * Plays a recorded scenario against a living master: does what the scheduler, the operator and the executors did, in the
 * recorded order, waits for each recorded event, and notes every difference. It goes on after a difference, so that one run
 * shows them all, and gives up after a few things that never came.
 */
import { doDrop, doExecutor, doFault, stayQuiet } from './acts.ts';
import { doCall } from './calls.ts';
import { brief } from './compare.ts';
import { expectEvent } from './events.ts';
import { ExecutorControl } from './executors.ts';
import type { CallItem, DropItem, EventItem, ExecutorItem, FaultItem, Golden, Item, QuietItem } from './golden.ts';
import { GaveUp, Session } from './session.ts';
import type { Target } from './target.ts';

/** Plays the whole scenario. The differences are texts; none when the target does as the real master did. */
export async function replay(golden: Golden, target: Target): Promise<readonly string[]> {
  const control = await ExecutorControl.start();
  const session = new Session(golden, target, control);
  const stopWatching = session.watchLag();
  try {
    let before = 0;
    for (const item of golden.timeline) {
      session.at = `${golden.scenario} ${item.t}`;
      noteTime(session, item);
      await step(session, item, Math.max(0, item.t - before));
      before = item.t;
    }
    for (const connection of session.connections.values())
      for (const event of connection.queue)
        session.differ(`not in the recording, on ${connection.name}: ${brief(event)}`);
  } catch (error) {
    if (!(error instanceof GaveUp)) throw error;
    session.differ(`gave up: ${error.message}`);
  } finally {
    stopWatching();
    for (const connection of session.connections.values()) connection.drop();
    await control.close();
  }
  return session.differences;
}

function noteTime(session: Session, item: Item): void {
  if ('event' in item || 'quiet' in item) return;
  const now = { t: item.t, live: performance.now() };
  if (!('executor' in item)) session.anchors.push(now);
  session.acted = { ...now, lostMs: session.lostMs };
}

function step(session: Session, item: Item, gap: number): Promise<void> {
  if ('call' in item) return doCall(session, item as CallItem);
  if ('event' in item) return expectEvent(session, item as EventItem, gap);
  if ('executor' in item) return doExecutor(session, item as ExecutorItem);
  if ('fault' in item) return doFault(session, item as FaultItem);
  if ('drop' in item) return doDrop(session, item as DropItem);
  return stayQuiet(session, item as QuietItem);
}
