/** What every part of the controller is given. Nothing here is global: a simulation makes as many as it likes. */
import type { MemberSecrets } from '../channel/protocol.ts';
import type { Clock } from '../clock.ts';
import type { EventKind } from '../events.ts';
import type { Logger } from '../log.ts';
import type { CallBody } from '../mesos/calls.ts';
import { addEvent } from '../store/events.ts';
import type { ClusterSecrets, Leader } from '../store/rows.ts';
import type { Store } from '../store/store.ts';
import type { Executors } from './executors.ts';
import type { Market } from './market.ts';
import type { Rates } from './rates.ts';
import type { Wakes } from './wakes.ts';

/** How executors are started on agents; given by the operator, the same for every member. */
export interface ExecutorCommand {
  /** Shell command line, run by the agent in the sandbox. */
  readonly value: string;
  readonly uris: readonly { readonly value: string; readonly extract?: boolean; readonly executable?: boolean }[];
  readonly user: string | null;
  readonly environment: Readonly<Record<string, string>>;
}

export interface FrameworkIdentity {
  readonly role: string;
  readonly principal: string | null;
  readonly installation: string;
}

export interface Context {
  readonly store: Store;
  readonly leader: Leader;
  readonly clock: Clock;
  readonly newId: () => string;
  /** 256 random bits for a launch's bearer token. */
  readonly newToken: () => string;
  /** In [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
  readonly identity: FrameworkIdentity;
  readonly executorCommand: ExecutorCommand;
  /** What `start` hands over: the cluster's accounts and a certificate for this member. */
  readonly memberSecrets: (
    secrets: ClusterSecrets,
    member: { readonly commonName: string; readonly ip: string; readonly hostname: string },
  ) => Promise<MemberSecrets>;
  /** The newest executed set that the primary of this epoch told; '' when nothing was heard. */
  readonly lastKnownPrimaryGtid: (clusterId: string, epoch: number) => string;
  /** Tasks that were told to acknowledge, or not to, and did not answer. */
  readonly unansweredVoters: Set<string>;
  /** How fast members were filled and caught up. */
  readonly rates: Rates;
  readonly call: (call: CallBody) => Promise<void>;
  readonly wakes: Wakes;
  readonly executors: Executors;
  readonly market: Market;
}

/** Records what operators see, and logs it. A failing event never stops the work that it tells of. */
export async function emit(
  context: Pick<Context, 'store' | 'clock' | 'log'>,
  kind: EventKind,
  cluster: { readonly id: string; readonly name: string } | null,
  message: string,
  extra: { readonly ordinal?: number; readonly data?: Record<string, unknown> } = {},
): Promise<void> {
  context.log.info({ kind, cluster: cluster?.name, ordinal: extra.ordinal, ...extra.data }, message);
  try {
    await addEvent(context.store, {
      kind,
      clusterId: cluster?.id ?? null,
      cluster: cluster?.name ?? null,
      ordinal: extra.ordinal ?? null,
      message,
      data: extra.data ?? {},
    });
  } catch (error) {
    context.log.error({ err: error, kind }, 'event was not stored');
  }
}
