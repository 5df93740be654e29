/** What the agent tells its executor by the environment. Durations are stout's text: `15mins`, `250ms`, `2secs`. */
import { join } from 'node:path';
import { z } from 'zod';

const unitMs: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  ms: 1,
  secs: 1000,
  mins: 60_000,
  hrs: 3_600_000,
  days: 86_400_000,
  weeks: 604_800_000,
};

/** Milliseconds of a stout Duration (`1.5mins`), or null when it is not one. */
export function parseDuration(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(ns|us|ms|secs|mins|hrs|days|weeks)$/.exec(text.trim());
  return match ? Number(match[1]) * unitMs[match[2]!]! : null;
}

const duration = (fallbackMs: number) =>
  z
    .string()
    .optional()
    .transform((text, context) => {
      const ms = text === undefined ? fallbackMs : parseDuration(text);
      if (ms === null) context.addIssue('not a duration');
      return ms ?? fallbackMs;
    });

const schema = z.object({
  MESOS_FRAMEWORK_ID: z.string().min(1),
  MESOS_EXECUTOR_ID: z.string().min(1),
  MESOS_AGENT_ENDPOINT: z.string().regex(/^[^/\s]+:\d+$/),
  MESOS_SLAVE_PID: z.string().optional(),
  MESOS_SANDBOX: z.string().optional(),
  MESOS_DIRECTORY: z.string().min(1),
  MESOS_EXECUTOR_AUTHENTICATION_TOKEN: z.string().optional(),
  MESOS_SUBSCRIPTION_BACKOFF_MAX: duration(2000),
  MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: duration(5000),
  /** Where MySQL distributions and templates are kept on the agent; shared by all executors there. */
  SELVEDGE_CACHE_DIR: z.string().optional(),
  SELVEDGE_ALLOW_UNTESTED_VERSION: z.enum(['0', '1']).default('0'),
  /** Short directory for the Unix socket of mysqld: paths of sockets end at 107 bytes. */
  SELVEDGE_RUN_DIR: z.string().default('/tmp'),
});

export interface ExecutorEnvironment {
  readonly frameworkId: string;
  readonly executorId: string;
  readonly agentEndpoint: string;
  /** Directory that holds the volumes, as this process sees it. */
  readonly sandbox: string;
  readonly authenticationToken: string | null;
  readonly subscriptionBackoffMs: number;
  readonly shutdownGraceMs: number;
  readonly cacheDir: string;
  readonly allowUntestedVersion: boolean;
  readonly runRoot: string;
}

/** Throws with every fault named when the process was not started by an agent. */
export function parseEnvironment(env: Readonly<Record<string, string | undefined>>): ExecutorEnvironment {
  const parsed = schema.safeParse(env);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new Error(`the environment is not that of a Mesos executor: ${faults.join('; ')}`);
  }
  const value = parsed.data;
  return {
    frameworkId: value.MESOS_FRAMEWORK_ID,
    executorId: value.MESOS_EXECUTOR_ID,
    agentEndpoint: value.MESOS_AGENT_ENDPOINT,
    sandbox: value.MESOS_SANDBOX ?? value.MESOS_DIRECTORY,
    authenticationToken: value.MESOS_EXECUTOR_AUTHENTICATION_TOKEN ?? null,
    subscriptionBackoffMs: value.MESOS_SUBSCRIPTION_BACKOFF_MAX,
    shutdownGraceMs: value.MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD,
    cacheDir: value.SELVEDGE_CACHE_DIR ?? join(value.MESOS_SANDBOX ?? value.MESOS_DIRECTORY, 'cache'),
    allowUntestedVersion: value.SELVEDGE_ALLOW_UNTESTED_VERSION === '1',
    runRoot: value.SELVEDGE_RUN_DIR,
  };
}
