/** Letting somebody read a member's backup volume through its executor: a token for a while, which only both ends hear. */
import { createHash } from 'node:crypto';
import { Refusal } from '../errors.ts';
import type { Context } from './context.ts';
import { gather } from './gather.ts';

const timeoutMs = 10_000;

export interface ShareOptions {
  readonly expiresInMs: number;
  /** Of all streams together; null: as fast as it goes. */
  readonly maxBytesPerSec: number | null;
  /** Begin a new binary log first, so that all that is written by now can be fetched in closed ones. */
  readonly closeLog?: boolean;
}

/** Where the member's executor listens, and what opens it. Refusals: NOT_FOUND, MEMBER_NOT_READY (it is not reached). */
export async function shareMember(context: Context, clusterId: string, ordinal: number, options: ShareOptions) {
  const view = await gather(context, clusterId);
  const member = view.members.find((one) => one.ordinal === ordinal);
  const { launch, bundle } = member ?? {};
  if (!member?.isConnected || !launch?.fingerprint || !bundle) {
    throw new Refusal('MEMBER_NOT_READY', `member ${ordinal} is not reached`);
  }
  const token = context.newToken();
  const tokenSha256 = createHash('sha256').update(token).digest('hex');
  const send = { epoch: view.cluster.epoch, timeoutMs };
  await context.executors.send(launch.taskId, { kind: 'share', tokenSha256, ...options }, send);
  const { fingerprint } = launch;
  return { ordinal, address: bundle.ip, port: bundle.bundle.ports.control, fingerprint, token };
}
