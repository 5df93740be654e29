/** A file of a tail, from the executor that keeps it: pinned, throttled there. */
import { createTransferClient, transferPaths } from '../channel/transfer.ts';
import type { Clock } from '../clock.ts';
import type { Controller } from '../controller/controller.ts';

/** As long as reading a file may take. */
const EXPIRES_MS = 3600_000;

export interface WantedTail {
  readonly clusterId: string;
  readonly ordinal: number;
  readonly id: string;
  readonly file: string;
  /** The first byte. */
  readonly from: number;
}

/** Refusals: of `share` (MEMBER_NOT_READY, …), and NOT_FOUND when the member does not keep it any more. */
export async function readTail(
  controller: Controller,
  clock: Clock,
  { clusterId, ordinal, id, file, from }: WantedTail,
  signal: AbortSignal,
): Promise<AsyncIterable<Buffer>> {
  const donor = await controller.share(clusterId, ordinal, { expiresInMs: EXPIRES_MS, maxBytesPerSec: null });
  const client = createTransferClient(donor, clock);
  try {
    return closing(await client.open(transferPaths.tail(id, file), from, signal), () => client.close());
  } catch (error) {
    client.close();
    throw error;
  }
}

async function* closing(stream: AsyncIterable<Buffer>, close: () => void): AsyncIterable<Buffer> {
  try {
    yield* stream;
  } finally {
    close();
  }
}
