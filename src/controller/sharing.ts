/** Letting somebody read a member's backup volume through its executor: a token for a while, which only both ends hear. */
import { createHash } from 'node:crypto';
import type { Donor } from '../channel/donor.ts';
import { Refusal } from '../errors.ts';
import { backupKeyOf } from './backup-key.ts';
import type { Context } from './context.ts';
import { type ClusterView, gather, type MemberView } from './gather.ts';

const timeoutMs = 10_000;

export interface ShareOptions {
  readonly expiresInMs: number;
  /** Of all streams together; null: as fast as it goes. */
  readonly maxBytesPerSec: number | null;
  /** Begin a new binary log first, so that all that is written by now can be fetched in closed ones. */
  readonly closeLog?: boolean;
}

/** Where the member's executor listens, and what opens it. Refusals: NOT_FOUND, MEMBER_NOT_READY (it is not reached). */
export async function shareMember(
  context: Context,
  clusterId: string,
  ordinal: number,
  options: ShareOptions,
): Promise<Donor> {
  const view = await gather(context, clusterId);
  const member = view.members.find((one) => one.ordinal === ordinal);
  if (!member) throw notReached(ordinal);
  return (await shareSeen(context, view, member, options)).donor;
}

/** The same of a member that was just looked at; also what it has executed, when it says so. */
export async function shareSeen(
  context: Context,
  { cluster }: ClusterView,
  { ordinal, isConnected, launch, bundle }: MemberView,
  options: ShareOptions,
  signal?: AbortSignal,
): Promise<{ readonly donor: Donor; readonly holds: string | null }> {
  if (!isConnected || !launch?.fingerprint || !bundle) throw notReached(ordinal);
  const token = context.newToken();
  const tokenSha256 = createHash('sha256').update(token).digest('hex');
  const send = { epoch: cluster.epoch, timeoutMs, ...(signal ? { signal } : {}) };
  const body = { kind: 'share', tokenSha256, ...options, ...(await backupKeyOf(context, cluster.id)) } as const;
  const answer = await context.executors.send(launch.taskId, body, send);
  const { fingerprint } = launch;
  const donor = { ordinal, address: bundle.ip, port: bundle.bundle.ports.control, fingerprint, token };
  return { donor, holds: answer.outcome === 'done' ? (answer.gtidExecuted ?? null) : null };
}

const notReached = (ordinal: number) => new Refusal('MEMBER_NOT_READY', `member ${ordinal} is not reached`);
