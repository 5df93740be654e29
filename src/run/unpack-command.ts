/** `selvedge unpack`: a packed or encrypted backup as a plain one, by hand: no control plane, no executor. */
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { keyIdOf } from '../cluster/backup-key.ts';
import { Refusal } from '../errors.ts';
import { copyBackup } from '../executor/copy-backup.ts';
import { type BackupKeys, parseKey } from '../executor/encryption.ts';
import { openBackup, readFiles } from '../executor/open-backup.ts';
import { type OptionSpec, readOptions, readSecretFile, UsageError, usage } from './options.ts';

const specs: Record<string, OptionSpec> = {
  from: {
    type: 'string',
    value: 'DIR',
    help: 'backups/ID of a backup volume, or what `download --packed` gave, unpacked',
  },
  to: { type: 'string', value: 'DIR', help: 'where to; it must not be there, and has this name when it is whole' },
  'key-file': { type: 'string', value: 'FILE', help: 'of an encrypted one: what `selvedge backup-key` gave' },
  help: { type: 'boolean', help: 'this text' },
};

const path = z
  .string({ error: 'is needed' })
  .min(1)
  .transform((text) => resolve(text));
const schema = z.strictObject({ from: path, to: path, 'key-file': path.optional() });

/** Answers the exit code; what a person can do wrong is said on stderr. */
export async function runUnpack(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    process.stdout.write(usage('unpack', 'a packed or encrypted backup as a plain one, by hand', specs));
    return 0;
  }
  const { from, to, 'key-file': keyFile } = readOptions(argv, specs, schema);
  try {
    const bytes = await unpackBackup({ from, to, keys: readKeys(keyFile) });
    process.stdout.write(`${to}: ${bytes} bytes, every file compared with its checksum\n`);
    return 0;
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error;
    const code = error instanceof Refusal ? ` (${error.code})` : '';
    process.stderr.write(`${error.message}${code}\n`);
    return 1;
  }
}

function readKeys(keyFile: string | undefined): BackupKeys {
  if (keyFile === undefined) return new Map();
  const key = parseKey(readSecretFile(keyFile));
  return new Map([[keyIdOf(key), key]]);
}

/** Leaves `manifest.json`, `SHA256SUMS` and `data/` in `to`, as a plain download has them. Answers the plain bytes. */
async function unpackBackup(options: {
  readonly from: string;
  readonly to: string;
  readonly keys: BackupKeys;
}): Promise<number> {
  const { from, to, keys } = options;
  if (
    await stat(to).then(
      () => true,
      () => false,
    )
  )
    throw new UsageError(`--to: ${to} is there already`);
  const backup = await openBackup(from, keys);
  if (!backup) throw new UsageError(`--from: ${from} has no manifest.json that is understood`);
  if (!backup.packed) throw new UsageError(`--from: ${from} is plain already`);
  const partial = `${to}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true, mode: 0o700 });
  try {
    const { signal } = new AbortController();
    await copyBackup({ backup, target: join(partial, 'data'), work: { signal, progress: () => {} } });
    const files = await readFiles(backup);
    await writeFile(join(partial, 'SHA256SUMS'), files.map((file) => `${file.sha256}  data/${file.path}\n`).join(''));
    await writeFile(join(partial, 'manifest.json'), `${JSON.stringify(backup.manifest, null, 2)}\n`);
    await rename(partial, to);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
  return backup.manifest.bytes;
}
