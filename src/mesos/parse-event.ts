import { z } from 'zod';
import type { Logger } from '../log.ts';

const head = z.looseObject({ type: z.string().optional() });

/** Null, logged, for what a newer Mesos adds or what is malformed: one bad event must not end the stream. */
export function parseEvent<T extends z.ZodType>(schema: T, json: unknown, log: Logger): z.infer<T> | null {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const type = head.safeParse(json).data?.type;
  log.warn({ type, faults: result.error.issues.slice(0, 5) }, 'event of Mesos is not understood and skipped');
  return null;
}
