/** Shapes of what is asked and told of backups. Times are UTC ms. */
import { z } from 'zod';
import * as limits from '../cluster/backup-policy.ts';

const schedule = z.string().trim().min(1).max(100).describe('Five fields of cron; null: only by hand');
const bytesPerSec = z.int().min(limits.BYTES_PER_SEC_MIN).max(100_000_000_000);

/** Every field may be left out: it stays as it is. */
export const policyBody = z
  .strictObject({
    schedule: schedule.nullable().optional(),
    timeZone: z.string().min(1).max(64).optional().describe('IANA name, such as Europe/Berlin; UTC by default'),
    jitterSeconds: z.int().min(0).max(limits.JITTER_SECONDS_MAX).optional(),
    members: z.enum(['all', 'replica']).optional(),
    keepCount: z.int().min(1).max(limits.KEEP_COUNT_MAX).optional().describe('So many good ones a member always stay'),
    keepDays: z.number().min(0).max(limits.KEEP_DAYS_MAX).optional().describe('Others stay so long, if there is room'),
    maxBytesPerSec: bytesPerSec.nullable().optional().describe('Of reading, for backups and verifications'),
    compress: z.enum(['none', 'zstd']).optional().describe('How new ones are packed'),
    encrypt: z
      .enum(['none', 'aes-256-gcm'])
      .optional()
      .describe('Whether new ones are sealed, with the key of the cluster'),
    verifyEveryHours: z.number().min(1).max(limits.VERIFY_HOURS_MAX).optional(),
    archive: z
      .strictObject({
        keepHours: z.number().min(1).max(limits.VERIFY_HOURS_MAX).optional(),
        maxShare: z.number().min(0.01).max(0.9).optional().describe('Of the backup volume'),
      })
      .optional(),
  })
  .refine((body) => Object.keys(body).length > 0, 'names nothing to change');

export const policyView = z.object({
  cluster: z.string(),
  schedule: z.string().nullable(),
  timeZone: z.string(),
  jitterSeconds: z.number(),
  members: z.enum(['all', 'replica']),
  keepCount: z.number(),
  keepDays: z.number(),
  maxBytesPerSec: z.number().nullable(),
  compress: z.enum(['none', 'zstd']),
  encrypt: z.enum(['none', 'aes-256-gcm']),
  verifyEveryHours: z.number(),
  archive: z.object({ keepHours: z.number(), maxShare: z.number() }),
  isDefault: z.boolean(),
  nextAt: z.number().nullable().describe('When the next run of the schedule is due'),
});
export type PolicyView = z.output<typeof policyView>;

export const backupKeyView = z.object({
  cluster: z.string(),
  keyId: z.string().describe('As in the manifests of the backups that it opens'),
  key: z.string().describe('32 bytes in hex'),
});

export const progress = z.object({
  step: z.string(),
  doneBytes: z.number(),
  totalBytes: z.number().nullable(),
  percent: z.number().nullable(),
  etaMs: z.number().nullable().describe('Until it is done, by the rate so far'),
});

export const verificationView = z.object({
  id: z.string(),
  cluster: z.string(),
  member: z.number(),
  backup: z.string(),
  state: z.enum(['open', 'done', 'failed']),
  requestedBy: z.string(),
  code: z.string().nullable(),
  message: z.string().nullable(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
  progress: progress.nullable(),
});
export const verificationList = z.object({ verifications: z.array(verificationView) });

export const downloadQuery = z.strictObject({
  packed: z.enum(['true', 'false']).optional().describe('A packed or encrypted one as it is stored'),
});

export const removalQuery = z.strictObject({
  force: z.enum(['true', 'false']).optional().describe('Also the last one of its member that is good'),
});
