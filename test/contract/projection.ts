import { asList, asText, dig, type Json, type JsonObject, toText } from './resources.ts';

/** What of an operator API answer is compared: who is there, in which state, holding what. */
export function project(answer: Json): JsonObject | undefined {
  switch (dig(answer, 'type')) {
    case 'GET_AGENTS':
      return { agents: asList(dig(answer, 'get_agents.agents')).map(agentOf) };
    case 'GET_TASKS':
      return tasksOf(dig(answer, 'get_tasks'));
    case 'GET_FRAMEWORKS':
      return { frameworks: asList(dig(answer, 'get_frameworks.frameworks')).map(frameworkOf) };
    case 'GET_OPERATIONS':
      return { operations: asList(dig(answer, 'get_operations.operations')).length };
    default:
      return undefined;
  }
}

const texts = (list: Json | undefined): Json => asList(list).map(toText).sort();

function agentOf(agent: Json): JsonObject {
  return {
    id: dig(agent, 'agent_info.id.value') ?? '',
    active: dig(agent, 'active') ?? false,
    deactivated: dig(agent, 'deactivated') ?? false,
    ...(dig(agent, 'drain_info.state') === undefined ? {} : { drain: dig(agent, 'drain_info.state')! }),
    total: texts(dig(agent, 'total_resources')),
    allocated: texts(dig(agent, 'allocated_resources')),
  };
}

function tasksOf(tasks: Json | undefined): JsonObject {
  const list = (field: string): Json =>
    asList(dig(tasks, field)).map(
      (task) =>
        `${asText(dig(task, 'framework_id.value'))} ${asText(dig(task, 'task_id.value'))} ${asText(dig(task, 'state'))}`,
    );
  return { tasks: list('tasks'), unreachable: list('unreachable_tasks'), completed: list('completed_tasks') };
}

function frameworkOf(framework: Json): JsonObject {
  return {
    id: dig(framework, 'framework_info.id.value') ?? '',
    active: dig(framework, 'active') ?? false,
    connected: dig(framework, 'connected') ?? false,
  };
}
