import { connect } from 'node:net';
import type { Clock } from '../clock.ts';

const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
const TIMEOUT_MS = 3_000;

/** Sends commands to a unix socket of HAProxy as one line, so that nothing comes in between; answers what it said. */
export function runCommands(clock: Clock, socketPath: string, commands: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let answer = '';
    const end = (error: Error | null) => {
      clock.clearTimeout(timer);
      socket.destroy();
      if (error) reject(new Error(`command HAProxy at ${socketPath}`, { cause: error }));
      else resolve(answer);
    };
    const timer = clock.setTimeout(() => end(new Error('no answer in time')), TIMEOUT_MS);
    socket.setEncoding('utf8').on('data', (text) => {
      answer += text;
      if (answer.length > ANSWER_BYTES_MAX) end(new Error('the answer is too long'));
    });
    socket.on('end', () => end(null));
    socket.on('error', end);
    socket.end(`${commands.join('; ')}\n`);
  });
}
