/** Frameworks and their streams: subscribe, fail over, disconnect, tear down. */
import type { FrameworkInfo } from '../../types.ts';
import { removeOffer, requestAllocation, touch } from './allocator.ts';
import { COMPLETED_FRAMEWORKS, type Framework, type Master, rolesOf, sendTo } from './master-state.ts';
import { findFrameworkFault } from './validation.ts';

export interface Subscription {
  readonly info: FrameworkInfo;
  readonly suppressedRoles: readonly string[];
  readonly streamId: string;
  /** The authenticated one. */
  readonly principal: string | null;
}

/** What is wrong with the FrameworkInfo is said on the stream, as an ERROR event, and the stream is closed. */
export function subscribe(master: Master, subscription: Subscription): void {
  const { info, streamId } = subscription;
  const refuse = (message: string) => {
    master.effects.send(streamId, { type: 'ERROR', error: { message } });
    master.effects.close(streamId);
  };
  const fault = findFrameworkFault(master, info, subscription.suppressedRoles);
  if (fault) {
    refuse(fault);
    return;
  }
  const id = info.id?.value;
  if (id === undefined || id === '') {
    addFramework(master, subscription, nextFrameworkId(master));
    return;
  }
  if (master.completed.some((framework) => framework.id === id)) {
    refuse('Framework has been removed');
    return;
  }
  const known = master.frameworks.get(id);
  if (!known) {
    addFramework(master, subscription, id);
    return;
  }
  const principal = info.principal ?? subscription.principal ?? null;
  if (principal !== known.principal) {
    refuse("Changing framework's principal is not allowed.");
    return;
  }
  resubscribe(master, known, subscription);
}

const nextFrameworkId = (master: Master): string => `${master.id}-${String(master.nextFramework++).padStart(4, '0')}`;

export function createFramework(master: Master, id: string, info: FrameworkInfo, principal: string | null): Framework {
  return {
    id,
    info: { ...info, id: { value: id } },
    principal,
    streamId: null,
    isRecovered: false,
    suppressed: new Set(),
    refused: [],
    tasks: new Map(),
    unreachable: new Map(),
    completed: [],
    registeredAt: master.clock.now(),
    reregisteredAt: master.clock.now(),
    removalTimer: null,
    heartbeatTimer: null,
  };
}

function addFramework(master: Master, subscription: Subscription, id: string): void {
  const { info, principal } = subscription;
  const framework = createFramework(
    master,
    id,
    info.principal === undefined && principal !== null ? { ...info, principal } : info,
    info.principal ?? principal,
  );
  master.frameworks.set(id, framework);
  connect(master, framework, subscription);
  requestAllocation(master, null);
}

function resubscribe(master: Master, framework: Framework, subscription: Subscription): void {
  const wasActive = framework.streamId !== null;
  if (framework.streamId !== null) {
    sendTo(master, framework, { type: 'ERROR', error: { message: 'Framework failed over' } });
    master.effects.close(framework.streamId);
  }
  // The old offers are void and nobody is told: the new scheduler never saw them.
  for (const offer of [...master.offers.values()])
    if (offer.frameworkId === framework.id) removeOffer(master, offer, false);
  updateInfo(framework, subscription.info);
  framework.isRecovered = false;
  framework.reregisteredAt = master.clock.now();
  connect(master, framework, subscription);
  for (const agent of master.agents.values())
    master.effects.toAgent(agent.key, { kind: 'updateFramework', framework: framework.info });
  if (!wasActive) requestAllocation(master, null);
}

/** `user` and `checkpoint` cannot change; that they were asked to is not said. */
export function updateInfo(framework: Framework, info: FrameworkInfo): void {
  const { user, checkpoint } = framework.info;
  framework.info = {
    ...info,
    user,
    ...(checkpoint === undefined ? {} : { checkpoint }),
    id: { value: framework.id },
    ...(framework.principal === null ? {} : { principal: framework.principal }),
  };
}

function connect(master: Master, framework: Framework, { streamId, suppressedRoles }: Subscription): void {
  framework.streamId = streamId;
  framework.suppressed.clear();
  for (const role of suppressedRoles) framework.suppressed.add(role);
  master.clock.clearTimeout(framework.removalTimer);
  framework.removalTimer = null;
  const { ip, port, version, heartbeatMs } = master.options;
  sendTo(master, framework, {
    type: 'SUBSCRIBED',
    subscribed: {
      framework_id: { value: framework.id },
      heartbeat_interval_seconds: heartbeatMs / 1000,
      master_info: {
        id: master.id,
        ip: ipNumber(ip),
        port,
        pid: `master@${ip}:${port}`,
        hostname: ip,
        version,
        address: { hostname: ip, ip, port },
        capabilities: [{ type: 'AGENT_UPDATE' }, { type: 'AGENT_DRAINING' }, { type: 'QUOTA_V2' }],
      },
    },
  });
  master.clock.clearTimeout(framework.heartbeatTimer);
  const beat = () => {
    if (master.isStopped || framework.streamId === null) return;
    sendTo(master, framework, { type: 'HEARTBEAT' });
    framework.heartbeatTimer = master.clock.setTimeout(beat, heartbeatMs);
  };
  beat();
}

/** As MasterInfo has it: network order read as a little endian number. */
function ipNumber(ip: string): number {
  const bytes = ip.split('.').map(Number);
  return ((bytes[3] ?? 0) * 2 ** 24 + ((bytes[2] ?? 0) << 16) + ((bytes[1] ?? 0) << 8) + (bytes[0] ?? 0)) >>> 0;
}

/** The stream broke. Offers go, filters go, tasks stay until failover_timeout (seconds; absent = 0 = at once). */
export function disconnect(master: Master, streamId: string): void {
  if (master.isStopped) return;
  const framework = [...master.frameworks.values()].find((each) => each.streamId === streamId);
  if (!framework) return;
  framework.streamId = null;
  framework.refused = [];
  framework.suppressed.clear();
  master.clock.clearTimeout(framework.heartbeatTimer);
  for (const offer of [...master.offers.values()])
    if (offer.frameworkId === framework.id) removeOffer(master, offer, false);
  const timeoutMs = (framework.info.failover_timeout ?? 0) * 1000;
  framework.removalTimer = master.clock.setTimeout(
    () => {
      if (framework.streamId === null && master.frameworks.get(framework.id) === framework)
        removeFramework(master, framework);
    },
    Math.min(timeoutMs, MAX_TIMER_MS),
  );
}

/** Longer timers of Node fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Everything of it is killed and no update is sent; reservations and volumes stay. */
export function removeFramework(master: Master, framework: Framework): void {
  master.frameworks.delete(framework.id);
  master.clock.clearTimeout(framework.removalTimer);
  master.clock.clearTimeout(framework.heartbeatTimer);
  for (const offer of [...master.offers.values()])
    if (offer.frameworkId === framework.id) removeOffer(master, offer, false);
  for (const operation of [...master.operations.values()])
    if (operation.frameworkId === framework.id) master.operations.delete(operation.uuid);
  for (const agent of master.agents.values()) {
    const isOurs = ({ frameworkId }: { frameworkId: string }) => frameworkId === framework.id;
    const touched = [...agent.tasks.values(), ...agent.executors.values()].some(isOurs);
    // As the real master: all is free at once, although the processes may need a while to die.
    for (const [key, task] of agent.tasks) if (isOurs(task)) agent.tasks.delete(key);
    for (const [key, executor] of agent.executors) if (isOurs(executor)) agent.executors.delete(key);
    if (touched) master.effects.toAgent(agent.key, { kind: 'shutdownFramework', frameworkId: framework.id });
    touch(agent);
  }
  for (const task of framework.tasks.values()) framework.completed.push({ ...task, state: 'TASK_KILLED' });
  framework.tasks.clear();
  if (framework.streamId !== null) master.effects.close(framework.streamId);
  framework.streamId = null;
  master.completed.push(framework);
  if (master.completed.length > COMPLETED_FRAMEWORKS) master.completed.shift();
}

/** A role that is not the framework's makes the master drop the whole call, after the 202. */
function ownRoles(framework: Framework, roles: readonly string[] | undefined): readonly string[] | null {
  const own = rolesOf(framework.info);
  if (!roles || roles.length === 0) return own;
  return roles.every((role) => own.includes(role)) ? roles : null;
}

export function revive(master: Master, framework: Framework, roles: readonly string[] | undefined): void {
  const revived = ownRoles(framework, roles);
  if (!revived) {
    master.warn({ roles }, 'REVIVE of a role that the framework has not');
    return;
  }
  for (const role of revived) framework.suppressed.delete(role);
  framework.refused = framework.refused.filter(({ role }) => !revived.includes(role));
  requestAllocation(master, null);
}

export function suppress(master: Master, framework: Framework, roles: readonly string[] | undefined): void {
  const suppressed = ownRoles(framework, roles);
  if (!suppressed) {
    master.warn({ roles }, 'SUPPRESS of a role that the framework has not');
    return;
  }
  for (const role of suppressed) framework.suppressed.add(role);
}

/** UPDATE_FRAMEWORK. Answers what the caller is told with status 400, or null. */
export function updateFramework(
  master: Master,
  framework: Framework,
  update: { info: FrameworkInfo; suppressedRoles: readonly string[] },
): string | null {
  const fault = findFrameworkFault(master, update.info, update.suppressedRoles);
  if (fault) return fault;
  if ((update.info.principal ?? null) !== framework.principal) return "Changing framework's principal is not allowed.";
  if (update.info.user !== framework.info.user) return "Updating 'FrameworkInfo.user' is unsupported";
  if ((update.info.checkpoint ?? false) !== (framework.info.checkpoint ?? false))
    return "Updating 'FrameworkInfo.checkpoint' is unsupported";
  const removed = rolesOf(framework.info).filter((role) => !rolesOf(update.info).includes(role));
  updateInfo(framework, update.info);
  framework.suppressed.clear();
  for (const role of update.suppressedRoles) framework.suppressed.add(role);
  for (const offer of [...master.offers.values()])
    if (offer.frameworkId === framework.id && removed.includes(offer.role)) removeOffer(master, offer, true);
  return null;
}
