import { z } from 'zod';

const span = z.object({
  serverUuid: z.string(),
  fromGtids: z.string().describe('What its server had before the first of its logs'),
  gtidSet: z.string(),
  firstAt: z.number().nullable(),
  lastAt: z.number().nullable(),
});

const archive = z.object({
  spans: z.array(span).describe('Unbroken runs of logs, one history each'),
  bytes: z.number(),
  pendingBytes: z.number().describe('Of its own binary logs, not durable in the archive yet'),
  archivedAt: z.number().nullable().describe('When nothing was pending for the last time'),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
});

/** Times are UTC milliseconds. */
export const recoveryWindowView = z.object({
  cluster: z.string(),
  from: z
    .number()
    .nullable()
    .describe('The end of the oldest backup that goes forward without a gap; null: there is none'),
  backupId: z.string().nullable(),
  to: z.number().nullable().describe('The newest archived commit'),
  rpoMs: z.number().describe('Age of the oldest acknowledged transaction that is in no archive; 0: all is archived'),
  missing: z.string().describe('GTIDs that were acknowledged after `from` and are in no archive'),
  gap: z.string().describe('GTIDs after the oldest backup that no archive has, although it has later ones'),
  members: z.array(
    z.object({
      member: z.number().int(),
      isWrittenOff: z.boolean().describe('Absent for so long that no binary logs are kept for it: it will be rebuilt'),
      archive: archive.nullable(),
    }),
  ),
});
