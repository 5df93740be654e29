/** `selvedge up`: local Mesos, scheduler and API in one process. What it launched runs on when it ends. */

import { userInfo } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';
import { createLogger } from '../log.ts';
import { untilSignal } from './lifetime.ts';
import { localSchema, localSpecs, startLocal } from './local.ts';
import { type OptionSpec, portOption, readOptions, usage } from './options.ts';
import { startScheduler } from './scheduler.ts';

const specs: Record<string, OptionSpec> = {
  ...localSpecs,
  port: { type: 'string', value: 'PORT', help: 'port of the REST API on 127.0.0.1, 0 for a free one (default 7070)' },
  'stop-members': { type: 'boolean', help: 'at the end also stop what was launched; volumes stay' },
  json: { type: 'boolean', help: 'one line of JSON on stdout when it is up' },
  help: { type: 'boolean', help: 'this text' },
};

const schema = z.strictObject({
  ...localSchema,
  port: portOption(7070),
  'stop-members': z.boolean().default(false),
  json: z.boolean().default(false),
});

const twoWeeksSeconds = 14 * 24 * 3600;

export async function runUp(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    process.stdout.write(usage('up', 'everything on this machine', specs));
    return 0;
  }
  const options = readOptions(argv, specs, schema);
  const dataDir = resolve(options['data-dir']);
  const log = createLogger(options['log-level']);
  const lifetime = untilSignal();
  const { agents, subnet, faults } = options;
  const local = await startLocal({ agents, subnet, faults, dataDir, masterPort: options['master-port'] }, log);
  const scheduler = await startScheduler(
    {
      dataDir,
      masters: [local.masterUrl],
      framework: {
        name: 'selvedge',
        user: userInfo().username,
        role: 'mysql',
        principal: 'selvedge',
        secret: null,
        failoverTimeoutSeconds: twoWeeksSeconds,
      },
      executorCommand: { value: localExecutorCommand(), uris: [], user: null },
      // Loopback and this machine's own users: the local mode asks for no token.
      api: { address: '127.0.0.1', port: options.port, auth: { kind: 'none' } },
    },
    log,
    lifetime.end,
  );
  if (options.json)
    process.stdout.write(`${JSON.stringify({ api: scheduler.apiUrl, master: local.masterUrl, pid: process.pid })}\n`);
  process.stderr.write(`selvedge is up: API ${scheduler.apiUrl}, Mesos master ${local.masterUrl}, ${agents} agents\n`);
  const reason = await lifetime.ended;
  await scheduler.stop();
  await local.stop({ keepExecutors: !options['stop-members'] });
  if (reason === null) return 0;
  log.error({ err: reason }, 'the scheduler ends');
  return 1;
}

/**
 * The agent gives nothing but the documented environment: the command names this very Node and this very program. The
 * compile cache spares every executor the stripping of types (30 MB and 0.1 s each, measured), the small young
 * generation another 10 MB.
 */
function localExecutorCommand(): string {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const here = (...parts: string[]) => quote(resolve(import.meta.dirname, '..', ...parts));
  const home = process.env['SELVEDGE_MYSQL_HOME'];
  const environment = [
    `SELVEDGE_CACHE_DIR=${here('..', '.cache', 'mysql')}`,
    `NODE_COMPILE_CACHE=${here('..', '.cache', 'node')}`,
    ...(home ? [`SELVEDGE_MYSQL_HOME=${quote(home)}`] : []),
  ];
  return `${environment.join(' ')} exec ${quote(process.execPath)} --max-semi-space-size=1 ${here('main.ts')} executor`;
}
