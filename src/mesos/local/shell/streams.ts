import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { encodeRecord } from '../../recordio.ts';
import type { Wire } from '../core/messages.ts';

/** The open answers to SUBSCRIBE, by stream id. */
export interface Streams {
  /** Takes over the response. `onClose` is called once, whoever ends it. */
  open(id: string, response: ServerResponse, onClose: () => void): void;
  send(id: string, event: Wire): void;
  /** After what was sent. */
  close(id: string): void;
  /** At once, with a broken connection. */
  cut(id: string): void;
  cutAll(): void;
}

/** `chunkBytes`: cut everything into pieces of that size, to try readers; null writes records whole. */
export function createStreams(chunkBytes: number | null = null): Streams {
  const open = new Map<string, ServerResponse>();
  const cut = (id: string) => {
    open.get(id)?.destroy();
    open.delete(id);
  };
  return {
    open(id, response, onClose) {
      open.set(id, response);
      response.flushHeaders();
      void once(response, 'close').then(() => {
        open.delete(id);
        onClose();
      });
    },
    send(id, event) {
      const record = encodeRecord(JSON.stringify(event));
      const size = chunkBytes ?? record.length;
      for (let at = 0; at < record.length; at += size) open.get(id)?.write(record.subarray(at, at + size));
    },
    close(id) {
      open.get(id)?.end();
      open.delete(id);
    },
    cut,
    cutAll() {
      for (const id of [...open.keys()]) cut(id);
    },
  };
}
