import { z } from 'zod';
import { progress } from './backup-schemas.ts';
import { fromBody } from './schemas.ts';

export const restoreBody = z
  .strictObject({
    ...fromBody.shape,
    cluster: z.undefined().optional(),
    confirm: z.string().max(64).optional().describe('Name of the cluster; needed unless ?dryRun=true'),
    withoutSafetyBackup: z
      .boolean()
      .optional()
      .describe('Go on when the safety backup cannot be made: what is left behind may then be gone'),
  })
  .refine(
    (body) => [body.backup, body.at, body.gtid].some((each) => each !== undefined),
    'names no state to go back to',
  )
  .refine(({ at, gtid }) => at === undefined || gtid === undefined, 'at and gtid exclude each other');

const until = z.union([
  z.object({ kind: z.literal('backup') }),
  z.object({ kind: z.literal('at'), atMs: z.number() }),
  z.object({ kind: z.literal('gtid'), gtidSet: z.string() }),
]);

export const restorePlanView = z.object({
  cluster: z.string(),
  backup: z.string(),
  holder: z.number().describe('The member on whose volume the backup lies'),
  member: z.number().describe('Who is filled and becomes the primary'),
  until,
  archives: z
    .array(z.object({ member: z.number(), serverUuid: z.string(), gtidSet: z.string(), lastAt: z.number().nullable() }))
    .describe('Runs of archived logs that are read, in order'),
  lost: z.string().describe('What was acknowledged and is left behind'),
  isLostExact: z.boolean().describe('false: of a time; at most this is lost, what was committed until then is kept'),
  estimateMs: z.number().describe('Without the safety backup'),
});

export const restoreView = z.object({
  id: z.string(),
  cluster: z.string(),
  state: z.enum(['open', 'done', 'refused']),
  requestedBy: z.string(),
  backup: z.string(),
  holder: z.number(),
  member: z.number(),
  until,
  safetyBackup: z
    .string()
    .nullable()
    .describe('Of the primary, as it was before; null until it is complete, or without'),
  fromEpoch: z.number().nullable(),
  lost: z.string().nullable().describe('What was acknowledged and is not in the restored state; null: not known yet'),
  steps: z.array(z.object({ name: z.string(), at: z.number(), detail: z.string().optional() })),
  attempts: z.number(),
  progress: progress.nullable(),
  code: z.string().nullable(),
  message: z.string().nullable(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
});
export const restoreList = z.object({ restores: z.array(restoreView) });
