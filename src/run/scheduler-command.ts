/** `selvedge scheduler --master …`: the command line of the control plane on a real Mesos. */
import { userInfo } from 'node:os';
import { z } from 'zod';
import { executorRuntime } from '../executor/runtime.ts';
import { createLogger } from '../log.ts';
import { untilSignal } from './lifetime.ts';
import {
  type OptionSpec,
  portOption,
  portRangeOption,
  readOptions,
  readSecretFile,
  readTokensFile,
  UsageError,
  untestedOption,
  usage,
} from './options.ts';
import { startScheduler } from './scheduler.ts';

const twoWeeksSeconds = 14 * 24 * 3600;

const specs: Record<string, OptionSpec> = {
  master: { type: 'string', value: 'URL[,URL…]', help: 'Mesos masters; the leader is found by redirects' },
  'data-dir': { type: 'string', value: 'DIR', help: 'store and its key (default ./selvedge-data)' },
  role: { type: 'string', value: 'ROLE', help: 'Mesos role of all reservations (default mysql)' },
  principal: { type: 'string', value: 'NAME', help: 'principal of the framework and its reservations' },
  'secret-file': { type: 'string', value: 'FILE', help: 'secret of the principal (Basic authentication)' },
  'framework-name': { type: 'string', value: 'NAME', help: 'name in the Mesos pages (default selvedge)' },
  'framework-user': { type: 'string', value: 'USER', help: 'unix user of tasks (default: the user of this process)' },
  'failover-timeout': { type: 'string', value: 'SECONDS', help: 'two weeks at least (default 1209600)' },
  'executor-command': {
    type: 'string',
    value: 'COMMAND',
    help: 'shell command that runs `selvedge executor` on agents',
  },
  'executor-uri': { type: 'string', value: 'URI[,URI…]', help: 'artifacts that the agent fetches into the sandbox' },
  'api-address': { type: 'string', value: 'IP', help: 'address of the REST API (default 127.0.0.1)' },
  'api-port': { type: 'string', value: 'PORT', help: 'port of the REST API (default 7070)' },
  'service-ports': { type: 'string', value: 'FROM-TO', help: 'ports of new clusters (default 13306-23305)' },
  'proxy-host': { type: 'string', value: 'HOST', help: 'where teams reach `selvedge proxy` (default 127.0.0.1)' },
  'tokens-file': { type: 'string', value: 'FILE', help: 'JSON: [{"name","sha256","role": viewer|team|operator}]' },
  'log-level': { type: 'string', value: 'LEVEL', help: 'debug, info, warn, error (default info)' },
  'allow-untested-version': untestedOption,
  help: { type: 'boolean', help: 'this text' },
};

const schema = z.strictObject({
  master: z.string({ error: 'is needed: http://host:port[,…]' }).transform((text) => text.split(',').filter(Boolean)),
  'data-dir': z.string().default('selvedge-data'),
  role: z
    .string()
    .regex(/^[^/*\s][^*\s]*$/, 'is not a Mesos role')
    .default('mysql'),
  principal: z.string().min(1).optional(),
  'secret-file': z.string().optional(),
  'framework-name': z.string().min(1).default('selvedge'),
  'framework-user': z.string().min(1).optional(),
  'failover-timeout': z.coerce
    .number()
    .min(twoWeeksSeconds, 'below two weeks Mesos would kill all members while the control plane is away')
    .default(twoWeeksSeconds),
  'executor-command': z.string({ error: 'is needed: how an agent starts `selvedge executor`' }).min(1),
  'executor-uri': z
    .string()
    .default('')
    .transform((text) => text.split(',').filter(Boolean)),
  'api-address': z.string().default('127.0.0.1'),
  'api-port': portOption(7070),
  'service-ports': portRangeOption.optional(),
  'proxy-host': z.string().min(1).max(255).default('127.0.0.1'),
  'allow-untested-version': z.boolean().default(false),
  'tokens-file': z.string({ error: 'is needed: nobody may use the API without a token' }),
  'log-level': z.enum(['debug', 'info', 'warn', 'error']).default('info'),
});

export async function runScheduler(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    process.stdout.write(usage('scheduler', 'the control plane on a Mesos cluster', specs));
    return 0;
  }
  const options = readOptions(argv, specs, schema);
  const secret = options['secret-file'] === undefined ? null : readSecretFile(options['secret-file']);
  if (secret !== null && options.principal === undefined) throw new UsageError('--secret-file needs --principal');
  const log = createLogger(options['log-level']);
  const lifetime = untilSignal();
  const running = await startScheduler(
    {
      dataDir: options['data-dir'],
      masters: options.master,
      framework: {
        name: options['framework-name'],
        user: options['framework-user'] ?? userInfo().username,
        role: options.role,
        principal: options.principal ?? null,
        secret,
        failoverTimeoutSeconds: options['failover-timeout'],
      },
      executorCommand: {
        value: options['executor-command'],
        uris: options['executor-uri'].map((value) => ({ value, extract: /\.(tgz|tar\.gz|zip)$/.test(value) })),
        user: options['framework-user'] ?? null,
        // Below the sandbox, which is the executor's working directory.
        environment: {
          ...executorRuntime('cache'),
          ...(options['allow-untested-version'] ? { SELVEDGE_ALLOW_UNTESTED_VERSION: '1' } : {}),
        },
      },
      api: {
        address: options['api-address'],
        port: options['api-port'],
        auth: { kind: 'tokens', tokens: readTokensFile(options['tokens-file']) },
      },
    },
    log,
    lifetime.end,
  );
  log.info({ api: running.apiUrl }, 'selvedge scheduler is up');
  const reason = await lifetime.ended;
  await running.stop();
  if (reason === null) return 0;
  log.error({ err: reason }, 'the scheduler ends');
  return 1;
}
