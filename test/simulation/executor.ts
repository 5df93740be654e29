/** An executor as its agent sees it: subscribes, takes one task, reports, ends. Its member does the rest. */
import { type LaunchPlan, launchPlan, PROTOCOL_VERSION } from '../../src/channel/protocol.ts';
import { messageFromExecutor, subscribeExecutor, updateFromExecutor } from '../../src/mesos/local/core/agent.ts';
import { type AgentCore, findExecutor } from '../../src/mesos/local/core/agent-state.ts';
import type { Wire } from '../../src/mesos/local/core/messages.ts';
import { toBase64 } from '../../src/mesos/local/core/updates.ts';
import type { TaskInfo, TaskState, TaskStatus } from '../../src/mesos/types.ts';
import type { Volume } from './disks.ts';
import type { SimulatedMember } from './member.ts';
import type { Process } from './time.ts';

const resubscribeMs = 300;
const acknowledgeTimeoutMs = 10_000;

export interface SimulatedExecutor {
  readonly process: Process;
  readonly host: string;
  member: SimulatedMember | null;
  plan: LaunchPlan | null;
  fingerprint: string;
  receive(event: Wire): void;
  streamClosed(): void;
}

export interface ExecutorDeps {
  readonly process: Process;
  readonly host: string;
  readonly frameworkId: string;
  readonly executorId: string;
  readonly directory: string;
  readonly newId: () => string;
  findAgent(): AgentCore | null;
  resolveVolume(path: string): Volume | null;
  openMember(
    executor: SimulatedExecutor,
    plan: LaunchPlan,
    data: Volume | null,
    backup: Volume | null,
  ): SimulatedMember;
  bindStream(streamId: string, executor: SimulatedExecutor): void;
  /** The process ends by itself. */
  exit(status: number): void;
  readonly startMs: number;
}

export function startExecutor(deps: ExecutorDeps): SimulatedExecutor {
  const { process, frameworkId, executorId, newId } = deps;
  const updates = new Map<string, TaskStatus>();
  const tasks = new Map<string, TaskInfo>();
  let streamId: string | null = null;
  let isEnding = false;
  const fingerprint = newId().replaceAll('-', '').padEnd(64, '0');

  const record = () => {
    const agent = deps.findAgent();
    if (!agent || agent.phase === 'stopped') return null;
    const found = findExecutor(agent, frameworkId, executorId);
    return found && !found.isGone ? { agent, found } : null;
  };

  function subscribe(): void {
    const known = record();
    if (!known) {
      process.clock.setTimeout(subscribe, resubscribeMs);
      return;
    }
    streamId = `stream-${newId()}`;
    deps.bindStream(streamId, executor);
    subscribeExecutor(known.agent, known.found, {
      streamId,
      unacknowledgedTasks: [...tasks.values()],
      unacknowledgedUpdates: [...updates.values()],
    });
  }

  function update(state: TaskState, message = ''): void {
    const { plan } = executor;
    if (!plan) return;
    const facts = JSON.stringify({ version: PROTOCOL_VERSION, fingerprint });
    const status: TaskStatus = {
      task_id: { value: plan.taskId },
      state,
      source: 'SOURCE_EXECUTOR',
      message,
      data: Buffer.from(facts, 'utf8').toString('base64'),
      uuid: toBase64(newId()),
      timestamp: process.clock.now() / 1000,
    };
    updates.set(status.uuid!, status);
    const known = record();
    if (known && streamId !== null) updateFromExecutor(known.agent, known.found, status);
  }

  function wake(): void {
    const known = record();
    const text = JSON.stringify({ version: PROTOCOL_VERSION, taskId: executor.plan?.taskId });
    if (known && streamId !== null)
      messageFromExecutor(known.agent, known.found, Buffer.from(text, 'utf8').toString('base64'));
  }

  function launch(task: TaskInfo): void {
    if (executor.plan || isEnding) return;
    tasks.set(task.task_id.value, task);
    const plan = launchPlan.parse(JSON.parse(Buffer.from(task.data ?? '', 'base64').toString('utf8')));
    executor.plan = plan;
    const find = (volume: LaunchPlan['data'] | null) =>
      volume && deps.resolveVolume(`${deps.directory}/${volume.containerPath}`);
    whenAnswering([find(plan.data), find(plan.backup)], () => open(plan));
  }

  /** Whoever reads a disk that hangs waits. */
  function whenAnswering(volumes: readonly (Volume | null)[], run: () => void): void {
    if (isEnding) return;
    if (volumes.some((volume) => volume?.disk.condition === 'hung'))
      process.clock.setTimeout(() => whenAnswering(volumes, run), 100);
    else run();
  }

  function open(plan: LaunchPlan): void {
    const find = (volume: LaunchPlan['data'] | null) =>
      volume && deps.resolveVolume(`${deps.directory}/${volume.containerPath}`);
    const member = deps.openMember(executor, plan, find(plan.data), find(plan.backup));
    executor.member = member;
    update('TASK_STARTING');
    let last = member.phase;
    let hasRun = false;
    member.listen((status) => {
      if (status.instance === last) return;
      last = status.instance;
      if (status.instance === 'running' && !hasRun) {
        hasRun = true;
        update('TASK_RUNNING');
      } else wake();
    });
  }

  async function end(state: 'TASK_KILLED' | 'TASK_FAILED', message: string): Promise<void> {
    if (isEnding) return;
    isEnding = true;
    await executor.member?.shutDown().catch(() => {});
    update(state, message);
    const deadline = process.clock.now() + acknowledgeTimeoutMs;
    const look = () => {
      if (updates.size === 0 || process.clock.now() >= deadline) deps.exit(state === 'TASK_KILLED' ? 0 : 256);
      else process.clock.setTimeout(look, 100);
    };
    look();
  }

  const executor: SimulatedExecutor = {
    process,
    host: deps.host,
    member: null,
    plan: null,
    fingerprint,
    receive: (event) =>
      process.deliver(() => {
        switch (event.type) {
          case 'LAUNCH':
            return launch((event['launch'] as { task: TaskInfo }).task);
          case 'KILL':
            return void end('TASK_KILLED', 'killed by the framework');
          case 'SHUTDOWN':
            return void end('TASK_FAILED', 'shut down by the agent');
          case 'ACKNOWLEDGED': {
            const { acknowledged } = event as unknown as {
              acknowledged: { task_id: { value: string }; uuid: string };
            };
            tasks.delete(acknowledged.task_id.value);
            updates.delete(acknowledged.uuid);
          }
        }
      }),
    streamClosed() {
      if (streamId === null) return;
      streamId = null;
      process.clock.setTimeout(subscribe, resubscribeMs);
    },
  };
  process.clock.setTimeout(subscribe, deps.startMs);
  return executor;
}
