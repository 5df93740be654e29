/** What a master refuses, in its own words. Functions answer why, or null. */
import {
  add,
  contains,
  findFault,
  formatResource,
  formatResources,
  isReserved,
  isVolume,
  normalise,
} from '../../resources.ts';
import type { ExecutorInfo, FrameworkInfo, Resource, TaskInfo } from '../../types.ts';
import { allocated } from './allocator.ts';
import { type Agent, type Framework, type Master, rolesOf, taskKey } from './master-state.ts';

const MAX_ID_LENGTH = 255;

/** Shared by task, executor and persistence ids: they become names of directories. */
export function findIdFault(id: string): string | null {
  if (id === '') return 'ID must not be empty';
  if (id.length > MAX_ID_LENGTH) return `ID must not be greater than ${MAX_ID_LENGTH} characters`;
  if (id === '.' || id === '..') return `'${id}' is disallowed`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is refused
  return /[/\\\x00-\x1f\x7f]/.test(id) ? `'${id}' contains invalid characters` : null;
}

function findRoleFault(role: string): string | null {
  if (role === '*') return null;
  if (role === '') return 'Empty role name is invalid';
  if (role.startsWith('/')) return `Role '${role}' cannot start with a slash`;
  if (role.endsWith('/')) return `Role '${role}' cannot end with a slash`;
  for (const component of role.split('/')) {
    if (component === '') return `Role '${role}' cannot contain two adjacent slashes`;
    if (component === '.' || component === '..' || component === '*')
      return `Role '${role}' cannot include '${component}' as a component`;
    if (component.startsWith('-')) return `Role component '${component}' is invalid because it starts with a dash`;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is refused
    if (/[\s\\\x00-\x1f\x7f]/.test(component))
      return `Role component '${component}' is invalid because it contains backspace or whitespace`;
  }
  return null;
}

export function findFrameworkFault(master: Master, info: FrameworkInfo, suppressed: readonly string[]): string | null {
  const isMultiRole = info.capabilities?.some(({ type }) => type === 'MULTI_ROLE') ?? false;
  if (isMultiRole && info.role !== undefined)
    return "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable";
  if (!isMultiRole && (info.roles?.length ?? 0) > 0)
    return "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
  const roles = rolesOf(info);
  if (new Set(roles).size < roles.length) return "'FrameworkInfo.roles' contains duplicate items";
  for (const role of roles) {
    const fault = findRoleFault(role);
    if (fault)
      return isMultiRole
        ? `'FrameworkInfo.roles' contains invalid role: ${fault}`
        : `'FrameworkInfo.role' is not a valid role: ${fault}`;
    if (master.options.roles && role !== '*' && !master.options.roles.includes(role))
      return `Role '${role}' is not present in the master's --roles`;
  }
  const timeout = info.failover_timeout ?? 0;
  if (!(timeout >= 0) || !Number.isFinite(timeout)) return `The framework failover_timeout (${timeout}) is invalid`;
  const stranger = suppressed.find((role) => !roles.includes(role));
  if (stranger !== undefined) return `Suppressed role '${stranger}' is not among the framework's roles`;
  return null;
}

export function findResourcesFault(resources: readonly Resource[]): string | null {
  for (const resource of resources) {
    const fault = findFault(resource) ?? findReservationFault(resource) ?? findDiskFault(resource);
    if (fault) return `Invalid resources: ${fault}`;
  }
  return null;
}

function findReservationFault(resource: Resource): string | null {
  if (resource.reservations && (resource.reservation || (resource.role !== undefined && resource.role !== '*')))
    return `Resource ${resource.name} mixes the formats before and after reservation refinement`;
  let outer: string | null = null;
  for (const { type, role } of normalise(resource).reservations ?? []) {
    if (type === undefined || role === undefined) return `Reservation of ${resource.name} needs a type and a role`;
    if (role === '*') return 'Invalid reservation: role "*" cannot be reserved';
    const fault = findRoleFault(role);
    if (fault) return fault;
    if (outer !== null && !role.startsWith(`${outer}/`))
      return `Invalid refined reservation: role '${role}' is not a refinement of '${outer}'`;
    outer = role;
  }
  return null;
}

function findDiskFault(resource: Resource): string | null {
  const { disk } = resource;
  if (!disk) return null;
  if (disk.persistence) {
    if (!isReserved(resource))
      return 'Invalid DiskInfo: Persistent volumes cannot be created from unreserved resources';
    if (!disk.volume) return "Invalid DiskInfo: Expecting 'volume' to be set for persistent volume";
    if (disk.volume.host_path !== undefined)
      return "Invalid DiskInfo: Expecting 'host_path' to be unset for persistent volume";
    if ((disk.volume.mode ?? 'RW') === 'RO') return 'Invalid DiskInfo: Read-only persistent volume not supported';
    const fault = findIdFault(disk.persistence.id);
    if (fault) return `Invalid DiskInfo: Persistence ID ${fault}`;
  } else if (disk.volume) return 'Invalid DiskInfo: Non-persistent volume not supported';
  return null;
}

const fixAllocation = (resources: readonly Resource[], role: string): string | null => {
  const wrong = resources.find(({ allocation_info }) => (allocation_info?.role ?? role) !== role);
  return wrong ? `Resource ${formatResource(wrong)} is allocated to another role than the offer's '${role}'` : null;
};

export interface OperationContext {
  readonly framework: { readonly principal: string | null; readonly roles: readonly string[] } | null;
  /** Role of the offer; null for the operator. */
  readonly role: string | null;
}

export function findReserveFault(resources: readonly Resource[], { framework, role }: OperationContext): string | null {
  const malformed = findResourcesFault(resources) ?? (role === null ? null : fixAllocation(resources, role));
  if (malformed) return malformed;
  if (resources.length === 0) return 'Invalid resources: none are given';
  for (const resource of resources) {
    const shown = role === null ? resource : allocated([resource], role)[0]!;
    const last = normalise(resource).reservations?.at(-1);
    if (last?.type !== 'DYNAMIC') return `Resource ${formatResource(shown)} is not dynamically reserved`;
    if (isVolume(resource)) return 'A persistent volume cannot be reserved';
    if (role !== null && last.role !== role)
      return `A reserve operation was attempted for a resource with role '${last.role}', but the resource was allocated to role '${role}'`;
    if (framework && !framework.roles.includes(last.role ?? ''))
      return `A reserve operation was attempted for a resource with role '${last.role}', which is not a role of the framework`;
    const fault = findPrincipalFault(framework?.principal ?? null, last.principal);
    if (fault) return fault;
  }
  return null;
}

function findPrincipalFault(own: string | null, given: string | undefined): string | null {
  if (own === null) return null;
  if (given === undefined)
    return `A reserve operation was attempted by principal '${own}', but there is a reserved resource in the request with no principal set`;
  return given === own
    ? null
    : `A reserve operation was attempted by authenticated principal '${own}', which does not match a reserved resource in the request with principal '${given}'`;
}

export function findUnreserveFault(resources: readonly Resource[], { role }: OperationContext): string | null {
  const malformed = findResourcesFault(resources) ?? (role === null ? null : fixAllocation(resources, role));
  if (malformed) return malformed;
  for (const resource of resources) {
    const shown = role === null ? resource : allocated([resource], role)[0]!;
    if (normalise(resource).reservations?.at(-1)?.type !== 'DYNAMIC')
      return `Resource ${formatResource(shown)} is not dynamically reserved`;
    if (isVolume(resource))
      return `A dynamically reserved persistent volume ${formatResource(shown)} cannot be unreserved directly. Please destroy the persistent volume first then unreserve the resource`;
  }
  return null;
}

export function findCreateFault(
  volumes: readonly Resource[],
  agent: Agent,
  { framework, role }: OperationContext,
): string | null {
  const malformed = findResourcesFault(volumes) ?? (role === null ? null : fixAllocation(volumes, role));
  if (malformed) return malformed;
  const known = new Set(agent.total.filter(isVolume).map(volumeKey));
  for (const volume of volumes) {
    if (!isVolume(volume)) return `Resource ${formatResource(volume)} does not have DiskInfo`;
    const key = volumeKey(volume);
    if (known.has(key)) return `Persistence ID '${volume.disk?.persistence?.id}' is not unique`;
    known.add(key);
    const given = volume.disk?.persistence?.principal;
    const own = framework?.principal ?? null;
    if (own === null || given === own) continue;
    return given === undefined
      ? `Create volume operation has been attempted by principal '${own}', but there is a volume in the operation with no principal set in 'DiskInfo.Persistence'`
      : `Create volume operation has been attempted by principal '${own}', but there is a volume in the operation with principal '${given}' set in 'DiskInfo.Persistence'`;
  }
  return null;
}

/** A persistence id is unique per role and agent. */
const volumeKey = (volume: Resource): string =>
  `${normalise(volume).reservations?.at(-1)?.role ?? '*'}/${volume.disk?.persistence?.id}`;

export function findDestroyFault(volumes: readonly Resource[], agent: Agent, used: readonly Resource[]): string | null {
  for (const volume of volumes) {
    if (!isVolume(volume)) return 'Invalid resources: not a persistent volume';
    if (!contains(agent.total, [volume])) return 'Persistent volumes not found';
    if (contains(used, [volume])) return 'Persistent volumes in use';
  }
  return null;
}

export interface TaskContext {
  readonly master: Master;
  readonly framework: Framework;
  readonly agent: Agent;
  readonly role: string;
  readonly remaining: readonly Resource[];
}

/** The task with what the master fills in; `executor` null for a task with a command. */
export function findTaskFault(task: TaskInfo, context: TaskContext): string | null {
  const { framework, agent } = context;
  const idFault = findIdFault(task.task_id.value);
  if (idFault) return idFault;
  if (framework.tasks.has(task.task_id.value)) return `Task has duplicate ID: ${task.task_id.value}`;
  if (framework.unreachable.has(task.task_id.value))
    return `Task reuses the ID of an unreachable task: ${task.task_id.value}`;
  if (task.agent_id.value !== agent.id)
    return `Task uses invalid agent ${task.agent_id.value} while agent ${agent.id} is expected`;
  if (Number(task.kill_policy?.grace_period?.nanoseconds ?? 0) < 0)
    return "Task's 'kill_policy.grace_period' must be non-negative";
  if (task.resources.length === 0) return 'Task uses no resources';
  const malformed = findUsedResourcesFault('Task', task.resources, context.role);
  if (malformed) return malformed;
  if ((task.command === undefined) === (task.executor === undefined))
    return 'Task should have at least one (but not both) of CommandInfo or ExecutorInfo present';
  if (task.executor) {
    const fault = findExecutorFault(task.executor, context);
    if (fault) return fault;
  }
  return findShortage(task, context);
}

function findUsedResourcesFault(who: 'Task' | 'Executor', resources: readonly Resource[], role: string): string | null {
  const fault = findResourcesFault(resources);
  if (fault) return `${who} uses invalid resources: ${fault.replace('Invalid resources: ', '')}`;
  const wrong = fixAllocation(resources, role);
  if (wrong) return `${who} uses invalid resources: ${wrong}`;
  const ids = resources.filter(isVolume).map(volumeKey);
  return new Set(ids).size < ids.length ? `${who} uses duplicate persistence ID` : null;
}

function findExecutorFault(executor: ExecutorInfo, { framework, agent, role }: TaskContext): string | null {
  if (executor.type === 'DEFAULT') return 'Executors of type DEFAULT are not supported by mesos-local';
  if (executor.type === 'UNKNOWN') return "'ExecutorInfo.type' must be set to CUSTOM";
  const idFault = findIdFault(executor.executor_id.value);
  if (idFault) return `Executor ${idFault}`;
  if (executor.framework_id && executor.framework_id.value !== framework.id)
    return `ExecutorInfo has an invalid FrameworkID (Actual: ${executor.framework_id.value} vs Expected: ${framework.id})`;
  if (!executor.command) return "'ExecutorInfo.command' must be set for 'CUSTOM' executor";
  if (Number(executor.shutdown_grace_period?.nanoseconds ?? 0) < 0)
    return "ExecutorInfo's 'shutdown_grace_period' must be non-negative";
  const fault = findUsedResourcesFault('Executor', executor.resources, role);
  if (fault) return fault;
  const known = agent.executors.get(taskKey(framework.id, executor.executor_id.value));
  if (known && !isSameExecutor(known.info, executor, framework.id))
    return `ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.`;
  return null;
}

function isSameExecutor(known: ExecutorInfo, given: ExecutorInfo, frameworkId: string): boolean {
  const shape = ({ resources, ...rest }: ExecutorInfo) =>
    sortedJson({ ...rest, type: 'CUSTOM', framework_id: { value: frameworkId } });
  return (
    shape(known) === shape(given) &&
    contains(known.resources, given.resources) &&
    contains(given.resources, known.resources)
  );
}

function sortedJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

function findShortage(task: TaskInfo, { framework, agent, role, remaining }: TaskContext): string | null {
  const executor = task.executor;
  const isNew = executor && !agent.executors.has(taskKey(framework.id, executor.executor_id.value));
  if (executor) {
    const both = new Set(executor.resources.filter(isVolume).map(volumeKey));
    if (task.resources.some((resource) => isVolume(resource) && both.has(volumeKey(resource))))
      return 'Task and its executor use the same persistence ID';
  }
  const total = add(task.resources, isNew ? executor.resources : []);
  if (contains(remaining, total)) return null;
  return `Total resources ${formatResources(allocated(total, role))} required by task and its executor is more than available ${formatResources(allocated(remaining, role))}`;
}
