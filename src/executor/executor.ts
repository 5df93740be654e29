/**
 * The executor as Mesos sees it: one task, one member. It outlives its agent: while the agent is away mysqld runs on and
 * the control channel answers. Updates and messages tell facts; commands come over the control channel alone.
 */
import { flushCompileCache } from 'node:module';
import { z } from 'zod';
import { type LaunchPlan, launchPlan, PROTOCOL_VERSION, type StartedFacts, type Status } from '../channel/protocol.ts';
import { createSelfSigned } from '../channel/self-signed.ts';
import type { Clock } from '../clock.ts';
import { Refusal } from '../errors.ts';
import type { Logger } from '../log.ts';
import { createExecutorClient, type ExecutorClient, type ExecutorUpdate } from '../mesos/executor-client.ts';
import { findDistribution } from '../mysql/distribution.ts';
import { describe } from './command-queue.ts';
import { startControlServer } from './control-server.ts';
import { parseEnvironment } from './environment.ts';
import { startHealthServer } from './health-server.ts';
import { type Member, openMember } from './member.ts';

/** The agent acknowledges when it has stored the update; it may be away just now. */
const ACKNOWLEDGE_TIMEOUT_MS = 10_000;

/** A KILL that names no grace period lets mysqld end in its own time, within reason. */
const KILL_GRACE_MS = 5 * 60_000;

/**
 * An executor without a task holds nothing, and an agent that lost its note of it between fork and checkpoint will never
 * send one: it would run for ever. Longer than an agent takes to start again.
 */
const NO_TASK_MS = 2 * 60_000;

export interface ExecutorDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Version 4 uuids: the agent refuses others, and one of them can end it. */
  readonly newId: () => string;
  /** In [0, 1). */
  readonly random: () => number;
}

export interface RunningExecutor {
  /** Exit code of the process, when the task has ended and the agent knows. */
  readonly ended: Promise<number>;
  /** SIGTERM: as SHUTDOWN. */
  shutDown(): void;
}

interface Task {
  readonly plan: LaunchPlan;
  readonly member: Member;
  close(): Promise<void>;
}

/**
 * Runs the executor of one task. Throws when the process was not started by an agent; everything later ends the task
 * with TASK_FAILED and a sentence.
 */
export function runExecutor(
  processEnv: Readonly<Record<string, string | undefined>>,
  deps: ExecutorDeps,
): RunningExecutor {
  const { log } = deps;
  const environment = parseEnvironment(processEnv);
  let resolveEnded: (exitCode: number) => void = () => {};
  const ended = new Promise<number>((resolve) => {
    resolveEnded = resolve;
  });
  let opening: Promise<Task> | null = null;
  let isEnding = false;

  /** Ends the member by the rules, reports the state, waits for the agent, once. */
  const end = async (state: 'TASK_KILLED' | 'TASK_FAILED', message: string, graceMs: number) => {
    if (isEnding) return;
    isEnding = true;
    const task = await opening?.catch(() => null);
    if (task) {
      await task.member
        .shutDown(graceMs)
        .catch((error: unknown) => log.error({ err: error }, 'the instance did not end well'));
    }
    if (taskId !== null) client.update({ taskId, state, message });
    await client.whenAcknowledged(taskId, ACKNOWLEDGE_TIMEOUT_MS);
    await task?.close();
    client.stop();
    resolveEnded(state === 'TASK_KILLED' ? 0 : 1);
  };
  let taskId: string | null = null;
  // A fifth of the grace is for what comes after mysqld's end.
  const endSafely = (state: 'TASK_KILLED' | 'TASK_FAILED', message: string, graceMs = environment.shutdownGraceMs) => {
    end(state, message, graceMs * 0.8).catch((error: unknown) => {
      log.error({ err: error }, 'the end of the task failed');
      resolveEnded(1);
    });
  };

  const client = createExecutorClient({
    env: environment,
    ...deps,
    handlers: {
      subscribed: () => {},
      launch(task) {
        if (opening || isEnding) return;
        deps.clock.clearTimeout(noTask);
        taskId = task.task_id.value;
        opening = openTask(task, { environment, processEnv, deps, client });
        opening.catch((error: unknown) => {
          log.error({ err: error }, 'the task cannot start');
          endSafely('TASK_FAILED', describe(error));
        });
      },
      kill: (kill) => {
        if (kill.taskId !== taskId) return;
        endSafely('TASK_KILLED', 'killed by the framework', kill.graceMs ?? KILL_GRACE_MS);
      },
      shutdown: () => endSafely('TASK_FAILED', 'shut down by the agent'),
      message: () => {}, // commands come over the control channel alone
      error: (message) => log.error({ message }, 'the agent reports an error'),
    },
  });
  const noTask = deps.clock.setTimeout(() => endSafely('TASK_FAILED', 'no task came'), NO_TASK_MS);
  void ended.then(() => deps.clock.clearTimeout(noTask));
  client.start();
  return { ended, shutDown: () => endSafely('TASK_FAILED', 'the executor was told to end') };
}

interface OpenOptions {
  readonly environment: ReturnType<typeof parseEnvironment>;
  readonly processEnv: Readonly<Record<string, string | undefined>>;
  readonly deps: ExecutorDeps;
  readonly client: ExecutorClient;
}

async function openTask(task: { task_id: { value: string }; data?: string | undefined }, options: OpenOptions) {
  const { environment, processEnv, deps, client } = options;
  const { clock, log, newId } = deps;
  const plan = readPlan(task.data);
  if (plan.taskId !== task.task_id.value) throw new Error('the launch plan is that of another task');
  const distribution = findDistribution({
    env: processEnv,
    cacheDir: environment.cacheDir,
    allowUntestedVersion: environment.allowUntestedVersion,
  });
  distribution.catch(() => {}); // told when it is needed
  const member = await openMember({
    plan,
    sandbox: environment.sandbox,
    runRoot: environment.runRoot,
    cacheDir: environment.cacheDir,
    clock,
    log,
    newId,
    findDistribution: () => distribution,
    wakeScheduler: () => wake(client, plan, member.getStatus()),
  });
  const certificate = createSelfSigned({
    commonName: plan.taskId.slice(0, 60),
    ip: plan.address,
    serial: newId().replaceAll('-', ''),
    now: clock.now(),
  });
  const { address, ports, tokenSha256 } = plan;
  const control = await startControlServer({
    address,
    port: ports.control,
    ...certificate,
    tokenSha256,
    clock,
    log,
    submit: member.submit,
    getStatus: member.getStatus,
    onStatus: member.onStatus,
    transfer: member.transfer,
  });
  const health = await startHealthServer({ address, port: ports.health, log, getFacts: member.getHealth });
  const facts: StartedFacts = { version: PROTOCOL_VERSION, fingerprint: certificate.fingerprint };
  reportStates(client, plan, member, facts);
  // With NODE_COMPILE_CACHE set, executors to come load no TypeScript parser: 25 MB less each. Node itself writes the
  // cache only at a normal exit, which an executor may never have.
  flushCompileCache();
  return { plan, member, close: async () => void (await Promise.all([control.close(), health.close()])) };
}

/** TASK_STARTING now, TASK_RUNNING when mysqld takes connections for the first time, wake-ups at each change of state. */
function reportStates(client: ExecutorClient, plan: LaunchPlan, member: Member, facts: StartedFacts): void {
  const update = (state: ExecutorUpdate['state'], message?: string) =>
    client.update({ taskId: plan.taskId, state, data: JSON.stringify(facts), ...(message ? { message } : {}) });
  update('TASK_STARTING', member.getStatus().reason?.message);
  let last = member.getStatus().instance;
  let isRunning = false;
  member.onStatus((status) => {
    if (status.instance === last) return;
    last = status.instance;
    if (status.instance === 'running' && !isRunning) {
      isRunning = true;
      update('TASK_RUNNING');
    } else wake(client, plan, status);
  });
}

/** Best effort: the scheduler finds everything by itself, only later. */
function wake(client: ExecutorClient, plan: LaunchPlan, status: Status): void {
  const text = JSON.stringify({ version: PROTOCOL_VERSION, taskId: plan.taskId, instance: status.instance });
  client.sendMessage(text).catch(() => {});
}

const versionOnly = z.object({ version: z.number() });

function readPlan(data: string | undefined): LaunchPlan {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(data ?? '', 'base64').toString('utf8'));
  } catch {
    throw new Refusal('BAD_REQUEST', 'TaskInfo.data is no launch plan');
  }
  const version = versionOnly.safeParse(json);
  if (version.success && version.data.version !== PROTOCOL_VERSION) {
    throw new Refusal('NOT_SUPPORTED', `the launch plan has version ${version.data.version}, not ${PROTOCOL_VERSION}`);
  }
  return launchPlan.parse(json);
}
