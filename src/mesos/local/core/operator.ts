/** The operator API of the master, `POST /api/v1`: the reads, and the writes that tests and runbooks need. */
import { z } from 'zod';
import { add, findRest, formatResources } from '../../resources.ts';
import { type Id, id, type OfferOperation, type Resource, resource } from '../../types.ts';
import { markGone } from './agents.ts';
import { availableResources, offersOf, offerToWire, plain, refuse, removeOffer, usedResources } from './allocator.ts';
import { removeFramework } from './frameworks.ts';
import { answer, explainIssues, type HttpAnswer, type HttpRequest, readBody } from './http-table.ts';
import { type Agent, agentText, type Framework, type Master, type Task } from './master-state.ts';
import { applyOnAgent, findOperationFault, type ResourceOperation, toConversion } from './operations.ts';

const resources = z.object({ agent_id: id, resources: z.array(resource) });
const volumes = z.object({ agent_id: id, volumes: z.array(resource) });
const reads = [
  'GET_HEALTH',
  'GET_VERSION',
  'GET_AGENTS',
  'GET_FRAMEWORKS',
  'GET_TASKS',
  'GET_EXECUTORS',
  'GET_OPERATIONS',
  'GET_ROLES',
  'GET_MASTER',
] as const;
const operatorCall = z.union([
  z.object({ type: z.enum(reads) }),
  z.object({ type: z.literal('RESERVE_RESOURCES'), reserve_resources: resources }),
  z.object({ type: z.literal('UNRESERVE_RESOURCES'), unreserve_resources: resources }),
  z.object({ type: z.literal('CREATE_VOLUMES'), create_volumes: volumes }),
  z.object({ type: z.literal('DESTROY_VOLUMES'), destroy_volumes: volumes }),
  z.object({ type: z.literal('MARK_AGENT_GONE'), mark_agent_gone: z.object({ agent_id: id }) }),
  z.object({ type: z.literal('TEARDOWN'), teardown: z.object({ framework_id: id }) }),
]);
type OperatorCall = z.infer<typeof operatorCall>;
type Write = Exclude<OperatorCall, { type: (typeof reads)[number] }>;
const supported: ReadonlySet<string> = new Set([
  ...reads,
  'RESERVE_RESOURCES',
  'UNRESERVE_RESOURCES',
  'CREATE_VOLUMES',
  'DESTROY_VOLUMES',
  'MARK_AGENT_GONE',
  'TEARDOWN',
]);
/** Known to the real master and not imitated: said so instead of pretended. */
const isCallName = (type: unknown): boolean =>
  typeof type === 'string' &&
  /^(GET|LIST|READ|SET|SUBSCRIBE|UPDATE|START|STOP|DRAIN|DEACTIVATE|REACTIVATE|GROW|SHRINK|PRUNE)[A-Z_]*$/.test(type);

const json = (body: Record<string, unknown>): HttpAnswer =>
  answer(200, JSON.stringify(body), { 'Content-Type': 'application/json' });

/** A request that passed authentication and redirection. */
export function answerOperator(master: Master, request: HttpRequest): HttpAnswer {
  const body = readBody(request);
  if ('kind' in body) return body;
  const type = (body.json as { type?: unknown }).type;
  if (typeof type === 'string' && !supported.has(type) && isCallName(type))
    return answer(501, `${type} is not supported by mesos-local`);
  if (typeof type !== 'string' || !supported.has(type))
    return answer(400, "Failed to validate master::Call: Expecting 'type' to be present");
  const parsed = operatorCall.safeParse(body.json);
  if (!parsed.success) return explainIssues(body.json, parsed.error.issues, 'master::Call');
  const call = parsed.data;
  switch (call.type) {
    case 'GET_HEALTH':
      return json({ type: call.type, get_health: { healthy: true } });
    case 'GET_VERSION':
      return json({ type: call.type, get_version: { version_info: { version: master.options.version } } });
    case 'GET_MASTER':
      return json({
        type: call.type,
        get_master: { master_info: { id: master.id, port: master.options.port, version: master.options.version } },
      });
    case 'GET_ROLES':
      return json({ type: call.type, get_roles: getRoles(master) });
    case 'GET_AGENTS':
      return json({ type: call.type, get_agents: getAgents(master) });
    case 'GET_FRAMEWORKS':
      return json({ type: call.type, get_frameworks: getFrameworks(master) });
    case 'GET_TASKS':
      return json({ type: call.type, get_tasks: getTasks(master) });
    case 'GET_EXECUTORS':
      return json({ type: call.type, get_executors: getExecutors(master) });
    case 'GET_OPERATIONS':
      return json({ type: call.type, get_operations: getOperations(master) });
    default:
      return write(master, call);
  }
}

function write(master: Master, call: Write): HttpAnswer {
  switch (call.type) {
    case 'MARK_AGENT_GONE':
      return markGone(master, call.mark_agent_gone.agent_id.value) ? answer(200, '') : answer(404, 'Agent not found');
    case 'TEARDOWN': {
      const framework = master.frameworks.get(call.teardown.framework_id.value);
      if (!framework) return answer(400, 'No framework found with specified ID');
      removeFramework(master, framework);
      return answer(200, '');
    }
    case 'RESERVE_RESOURCES':
      return operate(master, call.reserve_resources.agent_id, {
        type: 'RESERVE',
        reserve: { resources: call.reserve_resources.resources },
      });
    case 'UNRESERVE_RESOURCES':
      return operate(master, call.unreserve_resources.agent_id, {
        type: 'UNRESERVE',
        unreserve: { resources: call.unreserve_resources.resources },
      });
    case 'CREATE_VOLUMES':
      return operate(master, call.create_volumes.agent_id, {
        type: 'CREATE',
        create: { volumes: call.create_volumes.volumes },
      });
    case 'DESTROY_VOLUMES':
      return operate(master, call.destroy_volumes.agent_id, {
        type: 'DESTROY',
        destroy: { volumes: call.destroy_volumes.volumes },
      });
  }
}

/** Takes back offers, as many as it needs, then converts; 409 if the agent has not got what it takes. */
function operate(master: Master, agentId: Id, operation: ResourceOperation & OfferOperation): HttpAnswer {
  const agent = master.agents.get(agentId.value);
  if (!agent) return answer(400, `No agent found with specified ID`);
  const fault = findOperationFault(agent, operation, { framework: null, role: null });
  if (fault)
    return operation.type === 'DESTROY'
      ? answer(400, `Invalid DESTROY operation: ${fault}`)
      : answer(400, `Invalid ${operation.type} operation on ${agentText(agent)}: ${fault}`);
  const conversion = toConversion(operation);
  const hasEnough = () => findRest(availableResources(master, agent), conversion.consumed) !== null;
  for (const offer of offersOf(master, agent.id)) {
    if (hasEnough()) break;
    removeOffer(master, offer, true);
    const framework = master.frameworks.get(offer.frameworkId);
    if (framework) refuse(master, framework, { ...offer, seconds: undefined });
  }
  if (!hasEnough())
    return answer(
      409,
      `${formatResources(availableResources(master, agent))} does not contain ${formatResources(conversion.consumed)}`,
    );
  applyOnAgent(master, { agent, framework: null, conversion, operationId: null });
  return answer(202, '');
}

/** Both forms together: role and reservation of old, and the reservations. */
const both = (list: readonly Resource[]): Record<string, unknown>[] =>
  list.map((each) => {
    const last = each.reservations?.at(-1);
    const { type, role, ...reservation } = last ?? {};
    return { ...each, role: role ?? '*', ...(type === 'DYNAMIC' ? { reservation } : {}) };
  });

const stamp = (ms: number) => ({ nanoseconds: ms * 1e6 });

const capabilities = ['MULTI_ROLE', 'HIERARCHICAL_ROLE', 'RESERVATION_REFINEMENT', 'AGENT_OPERATION_FEEDBACK'];

function agentView(master: Master, agent: Agent): Record<string, unknown> {
  const { info } = agent;
  const offered = offersOf(master, agent.id).flatMap((offer) => offer.resources);
  const used = usedResources(agent);
  return {
    agent_info: agentInfoView(agent.id, info),
    active: agent.isConnected,
    deactivated: false,
    version: master.options.version,
    pid: `slave(1)@${info.ip}:${info.port}`,
    registered_time: stamp(agent.registeredAt),
    ...(agent.reregisteredAt === null ? {} : { reregistered_time: stamp(agent.reregisteredAt) }),
    total_resources: both(agent.total),
    ...(used.length > 0 ? { allocated_resources: both(used) } : {}),
    ...(offered.length > 0 ? { offered_resources: both(offered) } : {}),
    capabilities: capabilities.map((type) => ({ type })),
  };
}

const agentInfoView = (agentId: string, info: Agent['info']) => ({
  hostname: info.hostname,
  port: info.port,
  resources: info.resources,
  ...(info.attributes.length > 0 ? { attributes: info.attributes } : {}),
  id: { value: agentId },
  checkpoint: true,
});

const getAgents = (master: Master) => ({
  agents: [...master.agents.values()].map((agent) => agentView(master, agent)),
  recovered_agents: [...master.recovered].map(([agentId, info]) => agentInfoView(agentId, info)),
});

function frameworkView(master: Master, framework: Framework): Record<string, unknown> {
  const offers = [...master.offers.values()].filter((offer) => offer.frameworkId === framework.id);
  const held = heldBy(master, framework);
  return {
    framework_info: framework.info,
    active: framework.streamId !== null,
    connected: framework.streamId !== null,
    recovered: framework.isRecovered,
    registered_time: stamp(framework.registeredAt),
    reregistered_time: stamp(framework.reregisteredAt),
    ...(offers.length > 0 ? { offers: offers.map((offer) => offerToWire(master, framework, offer)) } : {}),
    ...(held.length > 0 ? { allocated_resources: both(held) } : {}),
    ...(offers.length > 0 ? { offered_resources: both(offers.flatMap((offer) => offer.resources)) } : {}),
    offer_constraints: {},
  };
}

function heldBy(master: Master, framework: Framework): Resource[] {
  return add(
    ...[...master.agents.values()].map((agent) => {
      const ours = <T extends { frameworkId: string }>(map: Map<string, T>) =>
        new Map([...map].filter(([, each]) => each.frameworkId === framework.id));
      return plain(usedResources({ ...agent, tasks: ours(agent.tasks), executors: ours(agent.executors) }));
    }),
  );
}

const getFrameworks = (master: Master) => ({
  frameworks: [...master.frameworks.values()].map((framework) => frameworkView(master, framework)),
  ...(master.completed.length > 0
    ? { completed_frameworks: master.completed.map((framework) => frameworkView(master, framework)) }
    : {}),
});

function taskView(task: Task): Record<string, unknown> {
  const { info, status } = task;
  const { executor: _, command: __, ...rest } = info;
  return {
    ...rest,
    ...(task.executorId === null ? {} : { executor_id: { value: task.executorId } }),
    framework_id: { value: task.frameworkId },
    agent_id: { value: task.agentId },
    state: task.state,
    ...(task.statuses.length > 0 ? { statuses: task.statuses } : {}),
    ...(status ? { status_update_state: status.state, status_update_uuid: status.uuid } : {}),
  };
}

function getTasks(master: Master): Record<string, unknown> {
  const all = [...master.frameworks.values(), ...master.completed];
  const list = (pick: (framework: Framework) => Iterable<Task>) =>
    all.flatMap((framework) => [...pick(framework)].map(taskView));
  return {
    tasks: list(({ tasks }) => tasks.values()),
    unreachable_tasks: list(({ unreachable }) => unreachable.values()),
    completed_tasks: list(({ completed }) => completed),
  };
}

const getExecutors = (master: Master) => {
  const executors = [...master.agents.values()].flatMap((agent) =>
    [...agent.executors.values()].map(({ info }) => ({ executor_info: info, agent_id: { value: agent.id } })),
  );
  return executors.length > 0 ? { executors } : {};
};

const getOperations = (master: Master) => {
  const operations = [...master.operations.values()].map((operation) => ({
    framework_id: { value: operation.frameworkId },
    agent_id: { value: operation.agentId },
    info: { type: operation.type, id: { value: operation.operationId } },
    latest_status: {
      operation_id: { value: operation.operationId },
      state: operation.state,
      ...(operation.statusUuid === null ? {} : { uuid: { value: operation.statusUuid } }),
    },
    uuid: { value: operation.uuid },
  }));
  return operations.length > 0 ? { operations } : {};
};

function getRoles(master: Master): Record<string, unknown> {
  const names = new Set([...master.frameworks.values()].flatMap(({ info }) => info.roles ?? [info.role ?? '*']));
  const roles = [...names].map((name) => ({
    name,
    weight: 1,
    frameworks: [...master.frameworks.values()]
      .filter(({ info }) => (info.roles ?? [info.role ?? '*']).includes(name))
      .map((framework) => ({ value: framework.id })),
  }));
  return roles.length > 0 ? { roles } : {};
}
