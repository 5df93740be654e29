/** Shapes of the JSON columns: what is read back is checked like any other input. */
import { z } from 'zod';
import type { BackupPolicy } from '../cluster/backup-policy.ts';
import type { Origin } from '../cluster/recovery.ts';
import type { Bundle, ClusterSpec, Preferences, VoterRule } from '../cluster/types.ts';
import type { ClusterSecrets, FailoverFacts, FailoverOptions, RestoreFacts, Retained, Step } from './rows.ts';

const volume = z.object({ type: z.enum(['root', 'path', 'mount']), sizeMb: z.number() });

export const specColumn: z.ZodType<ClusterSpec> = z.object({
  name: z.string(),
  members: z.int(),
  resources: z.object({ cpus: z.number(), memMb: z.number() }),
  volumes: z.object({ data: volume, backup: volume.nullable() }),
  durability: z.enum(['majority', 'one', 'async']),
  ackFlush: z.enum(['os', 'disk']).default('os'),
  placement: z.object({ spread: z.enum(['agent', 'none']), attributes: z.record(z.string(), z.string()) }),
});

export const ruleColumn: z.ZodType<VoterRule> = z.object({
  epoch: z.int(),
  version: z.int(),
  primary: z.int(),
  voters: z.array(z.object({ ordinal: z.int(), incarnation: z.string(), bootId: z.string().optional() })),
  base: z.string().optional(),
  k: z.int(),
});

export const preferencesColumn: z.ZodType<Preferences> = z.record(z.string(), z.enum(['prefer', 'neutral', 'never']));

export const backupPolicyColumn: z.ZodType<BackupPolicy> = z.object({
  schedule: z.string().nullable(),
  timeZone: z.string(),
  jitterSeconds: z.number(),
  members: z.enum(['all', 'replica']),
  keepCount: z.int(),
  keepDays: z.number(),
  maxBytesPerSec: z.number().nullable(),
  compress: z.enum(['none', 'zstd']).default('none'),
  encrypt: z.enum(['none', 'aes-256-gcm']).default('none'),
  verifyEveryHours: z.number(),
  archive: z.object({ keepHours: z.number(), maxShare: z.number() }),
});

export const originColumn: z.ZodType<Origin> = z.object({
  clusterId: z.string(),
  cluster: z.string(),
  backup: z.object({
    id: z.string(),
    ordinal: z.int(),
    bytes: z.number(),
    gtidSet: z.string(),
    endedAt: z.number(),
  }),
  until: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('backup') }),
    z.object({ kind: z.literal('at'), atMs: z.number() }),
    z.object({ kind: z.literal('gtid'), gtidSet: z.string() }),
  ]),
  within: z.string(),
  maxBytesPerSec: z.number().nullable(),
});

export const optionsColumn: z.ZodType<FailoverOptions> = z.object({
  force: z.boolean().optional(),
  acceptedLoss: z.string().optional(),
  maxPauseMs: z.number().optional(),
});

const placedVolume = z.object({
  ...volume.shape,
  path: z.string().nullable(),
  persistenceId: z.string(),
  place: z.string().exactOptional(),
  isOwnDevice: z.boolean().exactOptional(),
});

export const bundleColumn: z.ZodType<Bundle> = z.object({
  cpus: z.number(),
  memMb: z.number(),
  ports: z.object({ mysql: z.int(), control: z.int(), health: z.int() }),
  data: placedVolume,
  backup: z
    .object({
      ...placedVolume.shape,
      takenAt: z.number().exactOptional(),
      replacing: z.object({ at: z.number(), requestedBy: z.string() }).exactOptional(),
      isNew: z.boolean().exactOptional(),
    })
    .nullable(),
});

export const factsColumn: z.ZodType<FailoverFacts> = z.object({
  fence: z
    .object({
      layer: z.enum(['executor', 'mesos', 'quorum', 'demoted', 'none']),
      detail: z.string(),
      at: z.number(),
    })
    .exactOptional(),
  reached: z
    .array(
      z.object({
        ordinal: z.int(),
        incarnation: z.string(),
        bootId: z.string().optional(),
        gtid: z.string(),
        isApplierRunning: z.boolean(),
      }),
    )
    .exactOptional(),
  pauseBeganAt: z.number().exactOptional(),
  hasLease: z.boolean().exactOptional(),
  chosen: z.int().exactOptional(),
  postMortem: z.object({ gtid: z.string(), at: z.number() }).exactOptional(),
  catchUpFrom: z.int().exactOptional(),
  caughtUpAt: z.number().exactOptional(),
  takenBackAt: z.number().exactOptional(),
  committedAt: z.number().exactOptional(),
  activatedAt: z.number().exactOptional(),
});

export const restoreFactsColumn: z.ZodType<RestoreFacts> = z.object({
  safety: z.object({ backup: z.string().nullable(), detail: z.string() }).exactOptional(),
  held: z.string().exactOptional(),
  fencedAt: z.number().exactOptional(),
  fillingAt: z.number().exactOptional(),
  gtidSet: z.string().exactOptional(),
  undoing: z.object({ code: z.string(), message: z.string() }).nullable().exactOptional(),
});

export const retainedColumn: z.ZodType<Retained> = z.object({
  since: z.number(),
  requestedBy: z.string(),
  within: z.string().exactOptional(),
  isExact: z.boolean().exactOptional(),
  endedAt: z.number().exactOptional(),
  window: z
    .object({
      from: z.number().nullable(),
      to: z.number().nullable(),
      backupId: z.string().nullable(),
      missing: z.string(),
    })
    .exactOptional(),
  downAt: z.number().exactOptional(),
});

export const stepsColumn: z.ZodType<Step[]> = z.array(
  z.object({ name: z.string(), at: z.number(), detail: z.string().exactOptional() }),
);

export const refusalColumn = z.object({
  code: z.string(),
  message: z.string(),
  facts: z.record(z.string(), z.unknown()).optional(),
});

const account = z.object({ user: z.string(), password: z.string() });

export const secretsColumn: z.ZodType<ClusterSecrets> = z.object({
  team: account,
  replication: account,
  clone: account,
  caCertPem: z.string(),
  caKeyPem: z.string(),
  backupKey: z.string().exactOptional(),
});
