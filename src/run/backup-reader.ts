/** A sealed backup as a stream of its files, from the executor that holds it: pinned, throttled there, resumed here. */
import { z } from 'zod';
import type { BackupReader } from '../api/download.ts';
import { createTransferClient, transferPaths } from '../channel/transfer.ts';
import { type Clock, delay } from '../clock.ts';
import type { Controller } from '../controller/controller.ts';
import { Refusal } from '../errors.ts';

/** As long as a download may take. */
const EXPIRES_MS = 24 * 3600_000;
const TRIES_MAX = 5;
const RETRY_MS = 1000;

const manifestSchema = z.looseObject({ directories: z.array(z.string()).optional() });
const filesSchema = z.array(
  z.object({ path: z.string(), bytes: z.number().int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
);

/** Refusals: of `share` (MEMBER_NOT_READY, …) and of the executor (BACKUP_DAMAGED, …). Close it at the end. */
export async function openBackupReader(
  controller: Controller,
  clock: Clock,
  backup: {
    readonly clusterId: string;
    readonly ordinal: number;
    readonly id: string;
    readonly maxBytesPerSec: number | null;
  },
  signal: AbortSignal,
): Promise<BackupReader> {
  const { clusterId, ordinal, id, maxBytesPerSec } = backup;
  const donor = await controller.share(clusterId, ordinal, { expiresInMs: EXPIRES_MS, maxBytesPerSec });
  const client = createTransferClient(donor, clock);
  try {
    const manifest = await client.readJson(transferPaths.manifest(id), manifestSchema, signal);
    const files = await client.readJson(transferPaths.files(id), filesSchema, signal);
    return {
      manifest,
      files,
      directories: manifest.directories ?? [],
      close: () => client.close(),
      async *read({ path, bytes }, until) {
        let done = 0;
        for (let tries = 1; done < bytes; ) {
          try {
            for await (const chunk of await client.open(transferPaths.data(id, path), done, until)) {
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
      },
    };
  } catch (error) {
    client.close();
    throw error;
  }
}
