import type { AgentCore, ExecutorRecord } from './agent-state.ts';
import { durationText } from './duration.ts';

const RECOVERY_TIMEOUT = '15mins';
const SUBSCRIPTION_BACKOFF_MAX = '2secs';

/** All that an executor gets; PATH is added where it is forked. Nothing else is inherited. */
export function executorEnvironment(agent: AgentCore, executor: ExecutorRecord): Record<string, string> {
  const { ip, port } = agent.options.info;
  const framework = agent.checkpoint.frameworks[executor.frameworkId];
  const grace = executor.info.shutdown_grace_period;
  const isCheckpointed = framework?.checkpoint === true;
  const role = Object.values(executor.tasks)[0]?.info.resources[0]?.allocation_info?.role;
  const own: Record<string, string> = {};
  for (const { name, value } of executor.info.command?.environment?.variables ?? []) own[name] = value ?? '';
  return {
    MESOS_FRAMEWORK_ID: executor.frameworkId,
    MESOS_EXECUTOR_ID: executor.info.executor_id.value,
    MESOS_SLAVE_ID: agent.checkpoint.agentId ?? '',
    MESOS_SLAVE_PID: `slave(1)@${ip}:${port}`,
    MESOS_AGENT_ENDPOINT: `${ip}:${port}`,
    MESOS_DIRECTORY: executor.directory,
    MESOS_SANDBOX: executor.directory,
    MESOS_CHECKPOINT: isCheckpointed ? '1' : '0',
    ...(isCheckpointed
      ? { MESOS_RECOVERY_TIMEOUT: RECOVERY_TIMEOUT, MESOS_SUBSCRIPTION_BACKOFF_MAX: SUBSCRIPTION_BACKOFF_MAX }
      : {}),
    MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: durationText(grace ? grace.nanoseconds / 1e6 : agent.options.shutdownGraceMs),
    MESOS_HTTP_COMMAND_EXECUTOR: '0',
    ...(executor.isCommand && role !== undefined ? { MESOS_ALLOCATION_ROLE: role } : {}),
    LIBPROCESS_IP: ip,
    LIBPROCESS_PORT: '0',
    ...own,
  };
}
