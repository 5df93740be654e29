import { z } from 'zod';

/** Where a donor's executor listens, and what opens it. Travels over the pinned channel alone. */
export const donorSchema = z.object({
  ordinal: z.number().int(),
  address: z.string(),
  port: z.number().int(),
  fingerprint: z.string(),
  token: z.string(),
});
export type Donor = z.infer<typeof donorSchema>;
