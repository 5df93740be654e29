/** Shapes of requests and answers. The CLI reads answers by them, /openapi.json is made from them. Times are UTC ms. */
import { z } from 'zod';
import * as limits from '../cluster/spec.ts';
import { progress } from './backup-schemas.ts';

export const REASON_LENGTH_MAX = 500;

const volumeBody = z.strictObject({
  type: z.enum(['root', 'path', 'mount']),
  sizeMb: z.int().min(limits.VOLUME_MB_MIN).max(limits.VOLUME_MB_MAX),
});
const attributeText = z.string().min(1).max(limits.ATTRIBUTE_LENGTH_MAX);

const gtidText = z.string().min(1).max(1_000_000);
export const fromBody = z
  .strictObject({
    cluster: z.string().min(1).max(64).optional().describe('Name or id of the cluster to copy'),
    backup: z.string().min(1).max(64).optional().describe('This backup; else the newest that serves'),
    at: z
      .union([z.string().min(10).max(40), z.int().min(0)])
      .optional()
      .describe('Up to this moment: RFC 3339, or UTC ms. Without `at` and `gtid`: the backup as it is'),
    gtid: gtidText.optional().describe('Up to exactly this set, the whole of it, as `gtidExecuted` shows it'),
    maxBytesPerSec: z.int().min(1024).optional().describe('Of what each donor sends'),
  })
  .refine(({ cluster, backup }) => cluster !== undefined || backup !== undefined, 'names no cluster and no backup')
  .refine(({ at, gtid }) => at === undefined || gtid === undefined, 'at and gtid exclude each other');

export const createBody = z.strictObject({
  name: z
    .string()
    .regex(
      limits.NAME_PATTERN,
      `must be a DNS label: a to z, 0 to 9 and -, a letter first, no - at the end, at most ${limits.NAME_LENGTH_MAX}`,
    ),
  members: z.int().min(1).max(limits.MEMBERS_MAX).optional().describe(`${limits.MEMBERS_DEFAULT} by default`),
  from: fromBody.optional().describe('A copy; what is not said of the new cluster is as in that one'),
  resources: z
    .strictObject({
      cpus: z.number().min(limits.CPUS_MIN).max(limits.CPUS_MAX),
      memMb: z.int().min(limits.MEM_MB_MIN).max(limits.MEM_MB_MAX),
    })
    .optional()
    .describe('Needed without `from`'),
  volumes: z
    .strictObject({ data: volumeBody, backup: volumeBody.nullable().optional() })
    .optional()
    .describe('Needed without `from`'),
  durability: z
    .enum(['majority', 'one', 'async'])
    .optional()
    .describe('majority from three members on, else async, by default'),
  ackFlush: z
    .enum(['os', 'disk'])
    .optional()
    .describe('What a replica does before it acknowledges. os (default): writes; disk: flushes, 2 to 5 times slower'),
  placement: z
    .strictObject({
      spread: z.enum(['agent', 'none']).optional(),
      attributes: z
        .record(attributeText, attributeText)
        .refine(
          (given) => Object.keys(given).length <= limits.ATTRIBUTES_MAX,
          `must be at most ${limits.ATTRIBUTES_MAX}`,
        )
        .optional(),
    })
    .optional(),
});

const reason = z.string().trim().min(1).max(REASON_LENGTH_MAX);
const ordinal = z
  .int()
  .min(0)
  .max(limits.MEMBERS_MAX - 1);

export const failoverBody = z.strictObject({
  kind: z.enum(['failover', 'switchover']),
  candidate: ordinal.optional().describe('Ordinal of the member that is to be the primary'),
  ifPrimary: ordinal.optional().describe('Refuse when another member is the primary'),
  ifEpoch: z.int().min(0).optional().describe('Refuse when the epoch is another'),
  reason: reason.describe('Why, for those who read it later'),
  force: z
    .boolean()
    .optional()
    .describe('Fail over although the primary is alive; switch over although that ends a long transaction'),
  acceptDataLoss: z
    .strictObject({ statement: z.string().min(1).max(20_000) })
    .optional()
    .describe('The `lossStatement` of a refusal or dry run; refused when the loss is another one by then'),
  maxPauseMs: z
    .int()
    .min(100)
    .max(60_000)
    .optional()
    .describe('Switchover: longest time from the first paused write to the commit point, 5000 by default'),
});

export const patchBody = z
  .strictObject({
    durability: z.enum(['majority', 'one', 'async']).optional(),
    ackFlush: z.enum(['os', 'disk']).optional(),
    automation: z
      .strictObject({ mode: z.enum(['on', 'off']), until: z.int().positive().nullable().optional() })
      .optional()
      .describe('off: nothing fails over by itself; `until` (UTC ms) ends it'),
    preferences: z
      .record(z.string().regex(/^\d$/, 'must be the ordinal of a member'), z.enum(['prefer', 'neutral', 'never']))
      .optional()
      .describe('Who shall rather, or never, become the primary; replaces what was said before'),
    cooldown: z.null().optional().describe('null releases the cooldown after an automatic failover'),
  })
  .refine((body) => Object.keys(body).length > 0, 'names nothing to change');

export const purgeBody = z.strictObject({
  confirm: z.string().max(64).optional().describe('Name of the cluster'),
});

export const backupBody = z.strictObject({
  member: ordinal.optional().describe('Ordinal; a running replica with the least lag by default'),
});

export const replacementBody = z.strictObject({
  volume: z.literal('backup').describe('Which volume is gone for good'),
  reason: reason.optional(),
});

export const replacementView = z.object({
  cluster: z.string(),
  member: z.number(),
  volume: z.literal('backup'),
  requestedBy: z.string(),
  at: z.number(),
});

export const rebuildBody = z.strictObject({
  reason: reason.optional(),
  force: z
    .boolean()
    .optional()
    .describe('Also when what only this member has cannot be saved as a tail before: that is then gone'),
});

const flag = z.enum(['true', 'false']).transform((text) => text === 'true');

export const clusterParams = z.object({ name: z.string().min(1).max(64).describe('Name or id of the cluster') });
export const operationParams = clusterParams.extend({ id: z.string().min(1).max(64) });
export const memberParams = clusterParams.extend({
  ordinal: z.string().regex(/^\d$/, 'must be the ordinal of a member').transform(Number),
});
export const noQuery = z.strictObject({});
export const createQuery = z.strictObject({ dryRun: flag.optional() });
export const watchQuery = z.strictObject({ watch: flag.optional() });
export const deleteQuery = z.strictObject({
  retainVolumes: flag
    .optional()
    .describe('Keep volumes, reservations, backups and secrets, until the cluster is purged'),
});
export const listQuery = z.strictObject({ all: flag.optional() });
export const eventsQuery = z.strictObject({
  after: z.coerce
    .number()
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .optional()
    .describe('Only events with a higher seq'),
  cluster: z.string().min(1).max(64).optional(),
  limit: z.coerce.number().int().min(1).max(1000).optional(),
  follow: flag.optional().describe('As server-sent events, on and on'),
});

const condition = z.object({ type: z.string(), since: z.number(), reason: z.string(), message: z.string() });
const fill = z.object({ totalMb: z.number(), usedMb: z.number() }).nullable();
const diskType = z.enum(['root', 'path', 'mount']);
const volume = z.object({ type: diskType, sizeMb: z.number() });

export const specView = z.object({
  name: z.string(),
  members: z.number(),
  resources: z.object({ cpus: z.number(), memMb: z.number() }),
  volumes: z.object({ data: volume, backup: volume.nullable() }),
  durability: z.enum(['majority', 'one', 'async']),
  ackFlush: z.enum(['os', 'disk']),
  placement: z.object({ spread: z.enum(['agent', 'none']), attributes: z.record(z.string(), z.string()) }),
});

export const memberView = z.object({
  ordinal: z.number(),
  role: z.enum(['primary', 'replica', 'none']),
  phase: z.string(),
  instance: z.string(),
  taskState: z.string().nullable(),
  isWritable: z.boolean(),
  agentId: z.string().nullable(),
  hostname: z.string().nullable(),
  host: z.string().nullable().describe('IPv4 address'),
  port: z.number().nullable(),
  healthPort: z.number().nullable(),
  gtidExecuted: z.string().nullable(),
  lagMs: z.number().nullable(),
  volumes: z.object({ data: fill, backup: fill }),
  failures: z.number(),
  retryAt: z.number().nullable(),
  message: z.string().nullable(),
  copy: progress.nullable().describe('While it is being filled with what the cluster is a copy of'),
});
export type MemberView = z.output<typeof memberView>;

const originView = z.object({
  cluster: z.string(),
  clusterId: z.string(),
  backup: z.string(),
  member: z.number(),
  until: z.union([
    z.object({ kind: z.literal('backup') }),
    z.object({ kind: z.literal('at'), atMs: z.number() }),
    z.object({ kind: z.literal('gtid'), gtidSet: z.string() }),
  ]),
});

const retained = z.object({
  since: z.number(),
  requestedBy: z.string(),
  endedAt: z.number().nullable().describe('When mysqld of all members had ended and their archives were complete'),
  downAt: z.number().nullable().describe('When no task was left'),
  isExact: z
    .boolean()
    .nullable()
    .describe('Its primary said what it held after the last write; false: copies may lack the last writes'),
  volumes: z.number().describe('That are kept'),
  bytesReserved: z.number().describe('Of those volumes'),
  newestBackup: z.object({ id: z.string(), member: z.number(), endedAt: z.number().nullable() }).nullable(),
  recoveryWindow: z
    .object({
      from: z.number().nullable(),
      to: z.number().nullable(),
      backupId: z.string().nullable(),
      missing: z.string().describe('GTIDs that were acknowledged and are in no archive'),
    })
    .nullable()
    .describe('Null until `endedAt`'),
});

export const clusterSummary = z.object({
  id: z.string(),
  origin: originView.nullable().describe('What it is a copy of'),
  name: z.string(),
  state: z.enum([
    'creating',
    'ready',
    'degraded',
    'failing-over',
    'blocked',
    'retaining',
    'retained',
    'deleting',
    'deleted',
  ]),
  conditions: z.array(condition),
  epoch: z.number(),
  primary: z.number().nullable(),
  createdAt: z.number(),
  deletedAt: z.number().nullable(),
  retained: retained.nullable().describe('It was deleted with its volumes retained, and not purged yet'),
  spec: specView,
  warnings: z.array(z.string()),
  automation: z.object({ mode: z.enum(['on', 'off']), until: z.number().nullable() }),
  cooldownUntil: z.number().nullable(),
  preferences: z.record(z.string(), z.enum(['prefer', 'neutral', 'never'])),
  servicePort: z
    .number()
    .nullable()
    .describe('Port of the cluster for life, on which `selvedge proxy` gives the primary; null when it is gone'),
  durability: z
    .object({
      acknowledgements: z.number(),
      voters: z.array(z.number()),
      flushing: z.array(z.number()),
      version: z.number(),
      waitingFor: z
        .array(z.string())
        .describe('What keeps the voters from being what they should be, as a rebuild that cannot begin'),
    })
    .nullable()
    .describe(
      'The rule in force: how many acknowledgements of which members a commit waits for, and who of them flushes first',
    ),
  rehearsal: z
    .object({
      candidate: z.number().nullable(),
      refusal: z
        .object({ code: z.string(), message: z.string(), facts: z.record(z.string(), z.unknown()).optional() })
        .nullable(),
      predictedMs: z.number().nullable(),
      couldLose: z.number(),
    })
    .nullable()
    .describe('If the primary died now: who would follow, or why nobody; transactions that could be lost'),
});
export const clusterView = clusterSummary.extend({ members: z.array(memberView) });
export type ClusterView = z.output<typeof clusterView>;
export const clusterList = z.object({ clusters: z.array(clusterSummary) });

export const createdView = clusterView.extend({
  credentials: z
    .object({
      user: z.string(),
      password: z.string(),
      uri: z.string().describe('Through the proxy; survives failover'),
      caCertPem: z.string(),
    })
    .describe('Told this once'),
});

const stage = z.object({ name: z.string(), isPassed: z.boolean(), reason: z.string() });
const place = { agentId: z.string(), hostname: z.string() };
export const dryRunView = z.object({
  isPlaceable: z.boolean(),
  spec: specView,
  warnings: z.array(z.string()),
  placed: z.array(z.object({ ordinal: z.number(), ...place })),
  refused: z.array(z.object({ ordinal: z.number(), agents: z.array(z.object({ ...place, stages: z.array(stage) })) })),
  neverFits: z.string().nullable(),
});

const endpoint = z.object({ ordinal: z.number(), host: z.string(), port: z.number(), healthPort: z.number() });
export const endpointsView = z.object({
  cluster: z.string(),
  epoch: z.number(),
  primary: endpoint.nullable().describe('null until the primary of this epoch takes writes'),
  replicas: z.array(endpoint.extend({ lagMs: z.number().nullable() })),
  caCertPem: z.string().describe("The cluster's own authority: clients verify its members' certificates with it"),
});
export type EndpointsView = z.output<typeof endpointsView>;

export const failoverView = z.object({
  id: z.string(),
  cluster: z.string(),
  kind: z.enum(['first', 'failover', 'switchover']),
  outcome: z.enum(['open', 'done', 'refused', 'aborted']),
  reason: z.string(),
  requestedBy: z.string(),
  candidate: z.number().nullable(),
  fromPrimary: z.number().nullable(),
  toPrimary: z.number().nullable(),
  fromEpoch: z.number(),
  refusal: z
    .object({ code: z.string(), message: z.string(), facts: z.record(z.string(), z.unknown()).optional() })
    .nullable(),
  options: z.object({
    force: z.boolean().optional(),
    acceptedLoss: z.string().optional(),
    maxPauseMs: z.number().optional(),
  }),
  fence: z.object({ layer: z.string(), detail: z.string(), at: z.number() }).nullable(),
  steps: z.array(z.object({ name: z.string(), at: z.number(), detail: z.string().optional() })),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
});
const refused = z
  .object({ code: z.string(), message: z.string(), facts: z.record(z.string(), z.unknown()).optional() })
  .nullable();
export const planView = z.object({
  kind: z.enum(['failover', 'switchover']),
  candidate: z.number().nullable(),
  refusal: refused,
  warnings: z.array(z.string()),
  steps: z.array(z.object({ name: z.string(), member: z.number().nullable(), what: z.string() })),
  predictedMs: z.number().nullable(),
});
export const failoverList = z.object({ failovers: z.array(failoverView) });

const result = { code: z.string().nullable(), message: z.string().nullable() };
const work = { id: z.string(), cluster: z.string(), member: z.number(), requestedBy: z.string() };
const span = { startedAt: z.number(), endedAt: z.number().nullable() };
export const backupView = z.object({
  ...work,
  state: z.enum(['open', 'complete', 'failed', 'removing', 'removed']),
  gtidSet: z.string().nullable(),
  bytes: z.number().nullable(),
  dueAt: z.number().nullable().describe('The run of the schedule that it belongs to; null: asked for by hand'),
  verifiedAt: z.number().nullable().describe('When it was last started and read whole'),
  isBad: z.boolean().describe('It is damaged and not used'),
  badReason: z.string().nullable(),
  removalReason: z.string().nullable(),
  progress: progress.nullable(),
  ...result,
  ...span,
});
export const backupList = z.object({ backups: z.array(backupView) });

export const rebuildView = z.object({
  ...work,
  state: z.enum(['open', 'done', 'failed']),
  reason: z.string(),
  way: z.string().nullable(),
  attempts: z.number(),
  ...result,
  ...span,
  progress: progress.nullable(),
});
export const tailView = z.object({
  member: z.number(),
  id: z.string().describe('Of the directory `tails/<id>` on its backup volume, or on its data volume'),
  gtidSet: z.string(),
  bytes: z.number(),
  at: z.number(),
  transactions: z.number().nullable(),
  reason: z.enum(['cut', 'rebuilt']).describe('Cut off at a rejoin, or kept before the member was filled anew'),
  hostname: z.string().nullable(),
  volume: z.enum(['data', 'backup']).nullable().describe('The volume of the member that it lies on'),
  directory: z
    .string()
    .nullable()
    .describe('On that host; relative to the work directory of its agent for a root disk'),
  files: z.array(z.object({ name: z.string(), bytes: z.number() })),
});
export const tailFileParams = operationParams.extend({ file: z.string().min(1).max(128) });
const page = (most: number) =>
  z
    .string()
    .regex(/^\d{1,12}$/, 'must be a number')
    .transform(Number)
    .pipe(z.int().max(most));
export const tailTextQuery = z.strictObject({
  offset: page(2 ** 40)
    .optional()
    .describe('First byte of the text; `nextOffset` of the page before'),
  limit: page(1024 * 1024)
    .pipe(z.int().min(1024))
    .optional()
    .describe('Bytes at most, 1024 to 1048576; 65536 by default'),
});
export const tailText = z.object({
  id: z.string(),
  member: z.number(),
  text: z.string().describe('Rows as comments, in the words of mysqlbinlog; whole lines'),
  offset: z.number(),
  nextOffset: z.number().nullable().describe('null: this was the last page'),
  totalBytes: z.number(),
});
export const tailList = z.object({ tails: z.array(tailView) });
export const rebuildList = z.object({ rebuilds: z.array(rebuildView) });

export const eventView = z.object({
  seq: z.number(),
  at: z.number(),
  kind: z.string(),
  clusterId: z.string().nullable(),
  cluster: z.string().nullable(),
  ordinal: z.number().nullable(),
  message: z.string(),
  data: z.record(z.string(), z.unknown()),
});
export const eventList = z.object({ events: z.array(eventView) });

export const offerList = z.object({
  offers: z.array(
    z.object({
      ...place,
      offerIds: z.array(z.string()),
      receivedAt: z.number(),
      cpus: z.number(),
      memMb: z.number(),
      ports: z.array(z.object({ begin: z.number(), end: z.number() })),
      disks: z.array(z.object({ type: diskType, path: z.string().nullable(), sizeMb: z.number() })),
      tried: z.array(
        z.object({
          clusterId: z.string(),
          cluster: z.string(),
          ordinal: z.number(),
          outcome: z.enum(['placed', 'refused']),
          stages: z.array(stage),
        }),
      ),
    }),
  ),
});

export const reservationView = z.object({
  id: z.string().describe('The label selvedge.reservation'),
  clusterId: z.string(),
  cluster: z.string(),
  member: z.number(),
  state: z.enum(['intended', 'reserved', 'releasing', 'released']),
  ...place,
  host: z.string(),
  cpus: z.number(),
  memMb: z.number(),
  ports: z.object({ mysql: z.number(), control: z.number(), health: z.number() }),
  volumes: z.array(
    z.object({
      kind: z.enum(['data', 'backup']),
      type: diskType,
      path: z.string().nullable(),
      sizeMb: z.number(),
      persistenceId: z.string(),
    }),
  ),
  createdAt: z.number(),
  lastSeenAt: z.number().nullable(),
  releaseReason: z.string().nullable(),
  releasedAt: z.number().nullable(),
});
export const reservationList = z.object({ reservations: z.array(reservationView) });

/** RFC 9457. `code` is from docs/errors.md. */
export const problemView = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  code: z.string(),
  todo: z.string(),
  faults: z.array(z.object({ path: z.string(), message: z.string() })),
  facts: z.record(z.string(), z.unknown()),
});
export type Problem = z.output<typeof problemView>;
