import { asObject, asText, type DiskRoots, dig, fromText, type Json, type JsonObject } from './resources.ts';

/** Recorded symbols ($F1, $A1) and the ids that stand for them in this run. */
export class Ids {
  private readonly live = new Map<string, string>();
  private readonly symbols = new Map<string, string>();
  /** Directories of the disks, per agent symbol (A1). */
  readonly roots = new Map<string, DiskRoots>();

  bind(symbol: string, id: string): void {
    this.live.set(symbol, id);
    this.symbols.set(id, symbol);
  }

  liveOf(symbol: string): string | undefined {
    return this.live.get(symbol);
  }

  symbolOf(id: string): string | undefined {
    return this.symbols.get(id);
  }

  /** Replaces every known live id in a JSON value by its symbol. */
  toSymbols(value: Json): Json {
    let text = JSON.stringify(value);
    for (const [id, symbol] of this.symbols) text = text.replaceAll(id, symbol);
    return JSON.parse(text) as Json;
  }

  text(value: string): string {
    return value.replace(/\$[FA]\d+/g, (symbol) => this.live.get(symbol) ?? `unknown-${symbol.slice(1)}`);
  }
}

const resourceLists = new Set(['resources', 'volumes']);
const resourceFields = new Set(['volume', 'addition']);

/** Fills a recorded body: symbols by live ids, resource texts by JSON, $words by `words`. Offer lists are left to the caller. */
export function fill(
  value: Json,
  ids: Ids,
  agent: string,
  words: Readonly<Record<string, string>>,
  field?: string,
): Json {
  const roots = ids.roots.get(agent) ?? {};
  if (typeof value === 'string') {
    if (field && resourceFields.has(field)) return fromText(value, roots);
    const withPaths = value.replace('$path0', roots.path0 ?? '/none').replace('$mount0', roots.mount0 ?? '/none');
    return ids.text(words[withPaths] ?? withPaths);
  }
  if (Array.isArray(value)) {
    const isResources = field !== undefined && resourceLists.has(field);
    return value.map((item) =>
      typeof item === 'string' && isResources ? fromText(item, roots) : fill(item, ids, agent, words),
    );
  }
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, ids, agent, words, key)]));
}

/** Directories behind the disks of one offer. */
export function rootsOf(resources: readonly Json[]): DiskRoots {
  const roots: { path0?: string; mount0?: string } = {};
  for (const resource of resources) {
    const path = asText(dig(resource, 'disk.source.path.root'));
    const mount = asText(dig(resource, 'disk.source.mount.root'));
    if (path) roots.path0 = path;
    if (mount) roots.mount0 = mount;
  }
  return roots;
}

/** What a launch says about each task: its executor and container paths of its volumes. */
export interface LaunchedTask {
  readonly task: string;
  readonly executor: string;
  readonly taskPaths: readonly string[];
  readonly executorPaths: readonly string[];
}

export function launchedTasks(body: Json): LaunchedTask[] {
  const operations = dig(body, 'accept.operations');
  const found: LaunchedTask[] = [];
  for (const operation of Array.isArray(operations) ? operations : []) {
    const tasks = dig(operation, 'launch.task_infos');
    for (const info of Array.isArray(tasks) ? tasks : []) found.push(launched(asObject(info)));
  }
  return found;
}

function launched(info: JsonObject): LaunchedTask {
  const paths = (list: Json | undefined) =>
    (Array.isArray(list) ? list : [])
      .map((resource) => asText(dig(resource, 'disk.volume.container_path')))
      .filter(Boolean);
  const task = asText(dig(info, 'task_id.value'));
  return {
    task,
    executor: asText(dig(info, 'executor.executor_id.value')) || task,
    taskPaths: paths(dig(info, 'resources')),
    executorPaths: paths(dig(info, 'executor.resources')),
  };
}
