/** A sealed backup as a stream of its files, from the executor that holds it: pinned, throttled there, resumed here. */
import { z } from 'zod';
import type { BackupReader } from '../api/download.ts';
import { createTransferClient, type TransferClient, transferPaths } from '../channel/transfer.ts';
import { type Clock, delay } from '../clock.ts';
import type { Controller } from '../controller/controller.ts';
import { Refusal } from '../errors.ts';
import { names, readList } from '../executor/manifest.ts';
import { suffixOf } from '../executor/packing.ts';

/** As long as a download may take. */
const EXPIRES_MS = 24 * 3600_000;
const TRIES_MAX = 5;
const RETRY_MS = 1000;

const manifestSchema = z.looseObject({
  directories: z.array(z.string()).optional(),
  packed: z.looseObject({ by: z.enum(['zstd', 'none']) }).optional(),
  encrypted: z.looseObject({}).optional(),
});
const stored = { bytes: z.number().int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) };
const filesSchema = z.array(z.object({ path: z.string(), ...stored, packed: z.object(stored).optional() }));

interface Wanted {
  readonly clusterId: string;
  readonly ordinal: number;
  readonly id: string;
  readonly maxBytesPerSec: number | null;
  /** As it is stored, when that is packed; else what comes out. */
  readonly isPacked: boolean;
}

/** Refusals: of `share` (MEMBER_NOT_READY, …) and of the executor (BACKUP_DAMAGED, …). Close it at the end. */
export async function openBackupReader(
  controller: Controller,
  clock: Clock,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<BackupReader> {
  const { clusterId, ordinal, maxBytesPerSec } = wanted;
  const donor = await controller.share(clusterId, ordinal, { expiresInMs: EXPIRES_MS, maxBytesPerSec });
  const client = createTransferClient(donor, clock);
  try {
    const about = await readAbout(client, wanted, signal);
    const { source, ...rest } = about;
    return {
      ...rest,
      close: () => client.close(),
      read: (file, until) => readWhole(client, clock, source, file, until),
    };
  } catch (error) {
    client.close();
    throw error;
  }
}

type About = Pick<BackupReader, 'texts' | 'root' | 'files' | 'directories'> & {
  /** Path of the request. */
  source(path: string): string;
};

async function readAbout(client: TransferClient, { id, isPacked }: Wanted, signal: AbortSignal): Promise<About> {
  const text = await readText(client, transferPaths.manifest(id), signal);
  const { directories = [], packed, encrypted } = manifestSchema.parse(JSON.parse(text.toString()));
  const list = await readText(client, transferPaths.files(id), signal);
  const files = filesSchema.parse(JSON.parse(list.toString()));
  const manifest = { path: names.manifest, text };
  if (!isPacked || !packed) {
    return { texts: [manifest], root: 'data', files, directories, source: (path) => transferPaths.data(id, path) };
  }
  const beside = async (path: string) => ({
    path,
    text: await readText(client, transferPaths.stored(id, path), signal),
  });
  const others = encrypted
    ? [await beside(names.mac), await beside(names.sealedFiles)]
    : [{ path: names.files, text: list }];
  const suffix = suffixOf(packed.by, encrypted !== undefined);
  return {
    texts: [manifest, ...others],
    root: 'packed',
    files: files.map((file) => ({ path: `${file.path}${suffix}`, ...(file.packed ?? file) })),
    directories: [],
    source: (path) => transferPaths.stored(id, path),
  };
}

async function readText(client: TransferClient, path: string, signal: AbortSignal): Promise<Buffer> {
  return readList(await client.open(path, 0, signal));
}

async function* readWhole(
  client: TransferClient,
  clock: Clock,
  source: About['source'],
  { path, bytes }: BackupReader['files'][number],
  until: AbortSignal,
): AsyncGenerator<Buffer> {
  let done = 0;
  for (let tries = 1; done < bytes; ) {
    try {
      for await (const chunk of await client.open(source(path), done, until)) {
        done += chunk.length;
        if (done > bytes) throw new Refusal('BACKUP_DAMAGED', `${path} is longer than its list says`);
        tries = 1;
        yield chunk;
      }
      if (done < bytes) throw new Error(`the stream of ${path} ended early`);
    } catch (error) {
      until.throwIfAborted();
      if (error instanceof Refusal || tries >= TRIES_MAX) throw error;
      tries += 1;
      await delay(clock, RETRY_MS, until);
    }
  }
}
