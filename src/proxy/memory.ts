/** What the proxy knew last, for a start while the API is away. Written whole or not at all. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { Route } from './routes.ts';

const port = z.int().min(1).max(65_535);
const memory = z.strictObject({
  format: z.literal(1),
  routes: z.array(
    z.strictObject({
      id: z.string(),
      name: z.string().regex(/^[a-z][a-z0-9-]{0,62}$/),
      servicePort: port,
      places: z
        .array(z.strictObject({ host: z.ipv4(), port, healthPort: port }).nullable())
        .min(1)
        .max(64),
      epoch: z.int().min(0),
      primary: z.int().min(0).nullable(),
    }),
  ),
});

/** Empty when there is no file or it is not understood: the API tells all again. */
export function readRoutes(file: string): Route[] {
  try {
    return memory.parse(JSON.parse(readFileSync(file, 'utf8'))).routes;
  } catch {
    return [];
  }
}

export function writeRoutes(file: string, routes: readonly Route[]): void {
  writeFileSync(`${file}.new`, `${JSON.stringify({ format: 1, routes })}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
