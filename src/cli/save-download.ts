import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { Client } from './http.ts';
import { CliError, exitCodes } from './io.ts';

/** Answers the bytes. The file has its name when it is whole, and nothing is left when it is not. */
export async function saveDownload(client: Client, path: string, output: string): Promise<number> {
  const partial = `${output}.partial`;
  let done = 0;
  try {
    const total = await client.download(path, async (stream) => {
      const counted = async function* () {
        for await (const chunk of stream) {
          done += chunk.length;
          yield chunk;
        }
      };
      await pipeline(counted, createWriteStream(partial, { mode: 0o600 }));
    });
    if (total !== null && done !== total) throw new CliError(exitCodes.notReachable, 'The stream ended early.');
    await rename(partial, output);
    return done;
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}
