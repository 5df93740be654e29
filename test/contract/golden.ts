import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Json, JsonObject } from './resources.ts';

/** A recorded call to the master. Ids are symbols: $F1 framework, $A1 agent, $O1 offer; resources are short text. */
export interface CallItem {
  readonly t: number;
  readonly call: string;
  readonly method?: string;
  readonly path?: string;
  /** Connection whose Mesos-Stream-Id goes along. */
  readonly stream?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly login?: string;
  readonly body?: JsonObject;
  /** A body that is no JSON. */
  readonly text?: string;
  readonly status: number;
  /** The answer is an event stream under this name. */
  readonly opens?: string;
  readonly answerHeaders?: Readonly<Record<string, string>>;
  readonly gist?: readonly string[];
  /** The one record of a stream that ends at once. */
  readonly record?: JsonObject;
  /** Projection of an operator API answer. */
  readonly answer?: JsonObject;
}

/** What a custom executor did. `after` is what it must have seen from the agent before. */
export interface ExecutorItem {
  readonly t: number;
  readonly executor: string;
  readonly update?: JsonObject;
  readonly message?: string;
  readonly exit?: number;
  /** What was in its volumes (by container path) when its process started. */
  readonly finds?: Readonly<Record<string, readonly string[]>>;
  readonly signal?: 'SIGKILL';
  readonly after?: 'LAUNCH' | 'KILL' | 'MESSAGE' | 'SHUTDOWN';
}

export interface FaultItem {
  readonly t: number;
  readonly fault: 'kill-agent' | 'start-agent' | 'kill-master' | 'start-master';
  readonly agent?: string;
}

/** The scheduler drops its connection. */
export interface DropItem {
  readonly t: number;
  readonly drop: string;
}

/** Nothing but heartbeats may come for so many (recorded) seconds. */
export interface QuietItem {
  readonly t: number;
  readonly quiet: number;
}

export interface EventItem {
  readonly t: number;
  readonly on: string;
  readonly event:
    | 'SUBSCRIBED'
    | 'OFFER'
    | 'RESCIND'
    | 'UPDATE'
    | 'OPERATION'
    | 'FAILURE'
    | 'MESSAGE'
    | 'ERROR'
    | 'CLOSED';
  readonly [field: string]: Json;
}

export type Item = CallItem | ExecutorItem | FaultItem | DropItem | QuietItem | EventItem;

export interface GoldenAgent {
  readonly resources: readonly string[];
  readonly attributes?: Readonly<Record<string, string>>;
}

export interface Golden {
  readonly scenario: string;
  readonly title: string;
  readonly agents: Readonly<Record<string, GoldenAgent>>;
  /** Tasks that were command tasks in the recording and are replayed with a custom executor without resources. */
  readonly replaced: readonly string[];
  readonly timeline: readonly Item[];
}

/** Reads test/golden/mesos/<scenario>.json. Our own file: its shape is trusted. */
export function readGolden(scenario: string): Golden {
  const path = join(import.meta.dirname, '..', 'golden', 'mesos', `${scenario}.json`);
  return JSON.parse(readFileSync(path, 'utf8')) as Golden;
}
