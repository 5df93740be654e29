/** `selvedge proxy`: one port for each cluster, which gives its primary whoever that is. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { realClock } from '../clock.ts';
import { createLogger } from '../log.ts';
import { findHaproxy, type Program } from '../proxy/find-haproxy.ts';
import { DIRECTORY_LENGTH_MAX } from '../proxy/haproxy.ts';
import { startProxy } from '../proxy/proxy.ts';
import { untilSignal } from './lifetime.ts';
import { type OptionSpec, readOptions, UsageError, usage } from './options.ts';

const specs: Record<string, OptionSpec> = {
  api: { type: 'string', value: 'URL', help: 'default $SELVEDGE_API or http://127.0.0.1:7070' },
  token: { type: 'string', value: 'TOKEN', help: 'of a viewer; default $SELVEDGE_TOKEN' },
  listen: { type: 'string', value: 'IP', help: 'IPv4 address of the service ports (default 127.0.0.1)' },
  haproxy: { type: 'string', value: 'PATH', help: 'HAProxy 2.6 or newer (default: on PATH, else .cache/haproxy)' },
  'data-dir': {
    type: 'string',
    value: 'DIR',
    help: 'its configuration, sockets and memory (default ./selvedge-proxy)',
  },
  json: { type: 'boolean', help: 'one line of JSON on stdout when it is up' },
  'log-level': { type: 'string', value: 'LEVEL', help: 'debug, info, warn, error (default info)' },
  help: { type: 'boolean', help: 'this text' },
};

const schema = z.strictObject({
  api: z.url({ protocol: /^https?$/, error: 'must be a URL, as http://127.0.0.1:7070' }).optional(),
  token: z.string().min(1).optional(),
  listen: z.ipv4('must be an IPv4 address').default('127.0.0.1'),
  haproxy: z.string().min(1).optional(),
  'data-dir': z
    .string()
    .min(1)
    .default('selvedge-proxy')
    .transform((path) => resolve(path))
    .refine((path) => path.length <= DIRECTORY_LENGTH_MAX, `must be at most ${DIRECTORY_LENGTH_MAX} characters long`)
    // It stands in HAProxy's configuration.
    .refine((path) => /^[\w./+-]+$/.test(path), 'must have no blanks and no special characters'),
  json: z.boolean().default(false),
  'log-level': z.enum(['debug', 'info', 'warn', 'error']).default('info'),
});

export async function runProxy(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    process.stdout.write(usage('proxy', 'a port for each cluster, which gives its primary', specs));
    return 0;
  }
  const options = readOptions(argv, specs, schema);
  const program = findProgram(options.haproxy);
  const log = createLogger(options['log-level']);
  const lifetime = untilSignal();
  const url = (options.api ?? process.env['SELVEDGE_API'] ?? 'http://127.0.0.1:7070').replace(/\/+$/, '');
  const proxy = await startProxy({
    api: { url, token: options.token ?? process.env['SELVEDGE_TOKEN'] },
    listen: options.listen,
    program: program.path,
    dataDir: options['data-dir'],
    clock: realClock,
    log,
  });
  void proxy.ended.then(lifetime.end);
  if (options.json)
    process.stdout.write(
      `${JSON.stringify({ pid: process.pid, haproxy: proxy.haproxyPid, listen: options.listen })}\n`,
    );
  log.info({ api: url, listen: options.listen, haproxy: program.version }, 'selvedge proxy is up');
  const reason = await lifetime.ended;
  await proxy.stop();
  if (reason === null) return 0;
  log.error({ err: reason }, 'the proxy ends');
  return 1;
}

function findProgram(given: string | undefined): Program {
  const cacheDir = resolve(import.meta.dirname, '..', '..', '.cache', 'haproxy');
  try {
    return findHaproxy({ given, path: process.env['PATH'] ?? '', cacheDir });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
