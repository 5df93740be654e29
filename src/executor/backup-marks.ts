/**
 * What was learned of a sealed backup later, in files of its own beside the manifest, which never changes:
 * `verified.json` (it was started and read), `checksums.json` (what every table's rows came to, the first time) and
 * `bad.json` (it must not be used, and why).
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readIfThere, writeDurable } from './durable.ts';

/** Tables of an instance: a line of some 100 bytes each. */
const MAX_CHECKSUMS_BYTES = 64 * 1024 * 1024;

const verifiedSchema = z.object({
  version: z.literal(1),
  /** UTC milliseconds. */
  at: z.number(),
  durationMs: z.number(),
  tables: z.number().int(),
  rows: z.number().int(),
});
export type Verified = z.infer<typeof verifiedSchema>;

const badSchema = z.object({ version: z.literal(1), at: z.number(), code: z.string(), message: z.string() });
export type Bad = z.infer<typeof badSchema>;

const checksumsSchema = z.object({ version: z.literal(1), tables: z.record(z.string(), z.number()) });
/** Name of the table (`schema.table`) to its CHECKSUM TABLE. */
export type Checksums = Readonly<Record<string, number>>;

export interface Marks {
  readonly verified: Verified | null;
  readonly bad: Bad | null;
}

/** A mark that cannot be read: `verified` does not count then, and `bad` counts. */
export async function readMarks(directory: string): Promise<Marks> {
  const verified = await readIfThere(join(directory, 'verified.json'));
  const bad = await readIfThere(join(directory, 'bad.json'));
  const garbled: Bad = { version: 1, at: 0, code: 'BACKUP_DAMAGED', message: 'it was marked bad' };
  return { verified: parse(verifiedSchema, verified), bad: bad === null ? null : (parse(badSchema, bad) ?? garbled) };
}

/** Only now does it count: takes a `bad` of an earlier try back. */
export async function markVerified(directory: string, verified: Omit<Verified, 'version'>): Promise<void> {
  await writeJson(join(directory, 'verified.json'), verifiedSchema.parse({ version: 1, ...verified }));
  await rm(join(directory, 'bad.json'), { force: true });
}

/** The reason stays until a verification passes. */
export async function markBad(directory: string, bad: Omit<Bad, 'version'>): Promise<void> {
  await writeJson(join(directory, 'bad.json'), badSchema.parse({ version: 1, ...bad }));
}

/** Null before the first verification, and when the file cannot be read. */
export async function readChecksums(directory: string): Promise<Checksums | null> {
  const text = await readIfThere(join(directory, 'checksums.json'), MAX_CHECKSUMS_BYTES);
  return parse(checksumsSchema, text)?.tables ?? null;
}

export async function writeChecksums(directory: string, tables: Checksums): Promise<void> {
  await writeDurable(join(directory, 'checksums.json'), `${JSON.stringify({ version: 1, tables })}\n`);
}

const writeJson = (path: string, value: object) => writeDurable(path, `${JSON.stringify(value, null, 2)}\n`);

function parse<S extends z.ZodType>(schema: S, text: string | null): z.output<S> | null {
  if (text === null) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
