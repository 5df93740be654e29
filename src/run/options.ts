/** Options of the commands that run something: parsed once, all faults at once, no secrets in what is printed. */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { z } from 'zod';

/** Wrong use of a command: the caller prints the message and ends with 2. */
export class UsageError extends Error {}

export interface OptionSpec {
  readonly type: 'string' | 'boolean';
  readonly value?: string;
  readonly help: string;
}

export const untestedOption: OptionSpec = {
  type: 'boolean',
  help: 'members may run another MySQL series than the tested 9.7',
};

/** The text of `--help`, from the same table that parses. */
export function usage(command: string, about: string, specs: Readonly<Record<string, OptionSpec>>): string {
  const rows = Object.entries(specs).map(
    ([name, spec]) => [`--${name}${spec.value ? ` ${spec.value}` : ''}`, spec.help] as const,
  );
  const width = Math.max(...rows.map(([left]) => left.length));
  const lines = rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
  return `selvedge ${command}: ${about}\n\n${lines.join('\n')}\n`;
}

/** Parses and checks. Unknown options and every fault are named in one UsageError. */
export function readOptions<S extends z.ZodType>(
  argv: readonly string[],
  specs: Readonly<Record<string, OptionSpec>>,
  schema: S,
): z.infer<S> {
  const options = Object.fromEntries(Object.entries(specs).map(([name, { type }]) => [name, { type }]));
  let values: Record<string, unknown>;
  try {
    values = parseArgs({ args: [...argv], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const parsed = schema.safeParse(values);
  if (parsed.success) return parsed.data;
  throw new UsageError(parsed.error.issues.map(({ path, message }) => `--${path.join('.')}: ${message}`).join('\n'));
}

/** `13306-23305`; at most a range of ports that anybody may listen on. */
export const portRangeOption = z
  .string()
  .regex(/^\d{4,5}-\d{4,5}$/, 'must be two ports, as 13306-23305')
  .transform((text) => {
    const [begin = 0, end = 0] = text.split('-').map(Number);
    return { begin, end };
  })
  .refine(({ begin, end }) => begin >= 1024 && begin <= end && end <= 65_535, 'must rise, from 1024 to 65535 at most');

export const portOption = (fallback: number) => z.coerce.number().int().min(0).max(65535).default(fallback);

/** A secret is read from a file, never from the command line, where every process sees it. */
export function readSecretFile(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw new UsageError(`the secret file ${path} cannot be read: ${(cause as Error).message}`);
  }
}

const tokensFile = z.array(
  z.strictObject({
    name: z.string().min(1),
    sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be the SHA-256 of the token, in hex'),
    role: z.enum(['viewer', 'team', 'operator']),
  }),
);

/** `[{"name","sha256","role"}]`; only digests are stored. */
export function readTokensFile(path: string): z.infer<typeof tokensFile> {
  try {
    return tokensFile.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    throw new UsageError(`the tokens file ${path} is not valid: ${(cause as Error).message}`);
  }
}
