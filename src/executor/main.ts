/** `node src/executor/main.ts`: what Mesos runs. The environment is the agent's, with SELVEDGE_* from the command. */
import { realClock } from '../clock.ts';
import { createLogger } from '../log.ts';
import { runExecutor } from './executor.ts';

const entropy = (bytes: number) => crypto.getRandomValues(Buffer.alloc(bytes));

/** A version 4 uuid. */
function newId(): string {
  const bytes = entropy(16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

const executor = runExecutor(process.env, {
  clock: realClock,
  log: createLogger(process.env['SELVEDGE_LOG_LEVEL']),
  newId,
  random: () => entropy(4).readUInt32BE() / 2 ** 32,
});
process.on('SIGTERM', executor.shutDown);
process.on('SIGINT', executor.shutDown);
process.exit(await executor.ended);
