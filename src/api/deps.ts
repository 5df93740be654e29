import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { ClusterSecrets } from '../store/rows.ts';
import type { Store } from '../store/store.ts';
import type { Auth } from './auth.ts';
import type { BackupReader } from './download.ts';
import type { LiveView } from './live.ts';

export interface ApiDeps {
  readonly store: Store;
  /** Have the controller look at the cluster soon. May be lost: the slow tick finds what was stored. */
  readonly wake: (clusterId: string) => void;
  readonly live: LiveView;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
  /** Passwords and the cluster's own certificate authority. `teamUser` is the team's account. */
  readonly createSecrets: (cluster: {
    readonly id: string;
    readonly name: string;
    readonly teamUser: string;
  }) => Promise<ClusterSecrets>;
  readonly auth: Auth;
  /** Opens a sealed backup at the executor that holds it. Refusals: MEMBER_NOT_READY, BACKUP_DAMAGED, … */
  readonly readBackup: (
    backup: {
      readonly clusterId: string;
      readonly ordinal: number;
      readonly id: string;
      readonly maxBytesPerSec: number | null;
      /** As it is stored, when that is packed. */
      readonly isPacked: boolean;
    },
    signal: AbortSignal,
  ) => Promise<BackupReader>;
  /** Bytes of a file of a tail, from the member that keeps it. Refusals: MEMBER_NOT_READY, NOT_FOUND, … */
  readonly readTail: (
    tail: {
      readonly clusterId: string;
      readonly ordinal: number;
      readonly id: string;
      readonly file: string;
      /** The first byte. */
      readonly from: number;
    },
    signal: AbortSignal,
  ) => Promise<AsyncIterable<Buffer>>;
  /** Where teams reach the proxy, for the `uri` of a cluster. */
  readonly proxyHost: string;
}

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;
