/** A TCP proxy in front of one server that lets so many bytes a second through, each way: a network of that speed. */

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import { delay, realClock } from '../../src/clock.ts';
import { now } from '../demo/wait.ts';

export const gigabitBytesPerSec = 125_000_000;

export interface Throttle {
  readonly port: number;
  /** Bytes that came through, both ways. */
  bytes(): number;
  close(): Promise<void>;
}

export async function startThrottle(to: { host: string; port: number }, bytesPerSec: number): Promise<Throttle> {
  let bytes = 0;
  // One line for all connections: CLONE opens several.
  const [there, back]: [Line, Line] = [
    { bytesPerSec, freeAt: 0 },
    { bytesPerSec, freeAt: 0 },
  ];
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (from) => {
    const onward = connect({ ...to, allowHalfOpen: true });
    for (const socket of [from, onward]) {
      sockets.add(socket);
      socket.on('error', () => {
        from.destroy();
        onward.destroy();
      });
      socket.on('close', () => sockets.delete(socket));
    }
    const count = (chunk: Buffer) => {
      bytes += chunk.length;
    };
    from.pipe(limited(there, count)).pipe(onward);
    onward.pipe(limited(back, count)).pipe(from);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    bytes: () => bytes,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Line {
  readonly bytesPerSec: number;
  freeAt: number;
}

/** Each chunk is passed on when its last byte would have come over the line. */
function limited(line: Line, count: (chunk: Buffer) => void): Transform {
  return new Transform({
    async transform(chunk: Buffer, _, done) {
      count(chunk);
      const at = Math.max(line.freeAt, now()) + (1000 * chunk.length) / line.bytesPerSec;
      line.freeAt = at;
      // A timer is too coarse for one chunk: what is due within a millisecond or two goes on at once.
      if (at - now() > 2) await delay(realClock, at - now());
      done(null, chunk);
    },
  });
}
