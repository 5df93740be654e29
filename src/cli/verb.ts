import type { ParseArgsOptionsConfig } from 'node:util';
import { parseArgs } from 'node:util';
import type { Client } from './http.ts';
import { type CliIo, type ExitCode, usageError } from './io.ts';

type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

export interface VerbContext {
  readonly io: CliIo;
  readonly client: Client;
  readonly isJson: boolean;
  readonly words: readonly string[];
  readonly options: Options;
}

export interface Verb {
  readonly name: string;
  readonly summary: string;
  /** After the verb: `NAME ORDINAL`. */
  readonly usage: string;
  /** Number of words that are needed, no more and no less. */
  readonly wordCount: number;
  readonly options: ParseArgsOptionsConfig;
  /** Option to what it does, in the order of `--help`. */
  readonly help: Readonly<Record<string, string>>;
  readonly examples: readonly string[];
  readonly run: (context: VerbContext) => Promise<ExitCode>;
}

export const commonOptions = {
  api: { type: 'string' },
  token: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} satisfies ParseArgsOptionsConfig;

export const waitOptions = { wait: { type: 'boolean' }, timeout: { type: 'string' } } satisfies ParseArgsOptionsConfig;
export const waitHelp = {
  '--wait': 'wait until it is done, with progress on stderr',
  '--timeout SECONDS': 'how long to wait (default 600); exit code 4 after that',
};
const TIMEOUT_S_DEFAULT = 600;
const TIMEOUT_S_MAX = 24 * 3600;

/** Options of one call, read with checks; all faults are usage errors. */
export class Options {
  readonly #values: Values;
  constructor(values: Values) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  list(name: string): string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }

  number(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^\d{1,12}(\.\d{1,6})?$/.test(text)) throw usageError(`--${name} ${text} is not a number`);
    return Number(text);
  }

  timeoutMs(): number {
    const seconds = this.number('timeout') ?? TIMEOUT_S_DEFAULT;
    if (seconds > TIMEOUT_S_MAX) throw usageError(`--timeout is at most ${TIMEOUT_S_MAX} seconds`);
    return seconds * 1000;
  }
}

export function parseVerb(verb: Verb, args: readonly string[]): { words: string[]; options: Options } {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { ...commonOptions, ...verb.options },
      allowPositionals: true,
      strict: true,
    });
    return { words: positionals, options: new Options(values as Values) };
  } catch (error) {
    throw usageError(error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error));
  }
}

/** A cluster's name or id; anything else would become another path. */
export function clusterPath(name: string | undefined): string {
  if (!name || !/^[a-z0-9][a-z0-9-]{0,63}$/i.test(name)) throw usageError(`${name ?? ''} is no name of a cluster`);
  return `/v1/clusters/${name}`;
}

export function parseOrdinal(text: string | undefined): number {
  if (!text || !/^\d{1,2}$/.test(text)) throw usageError(`${text ?? ''} is no ordinal of a member`);
  return Number(text);
}

export function helpOf(verb: Verb): string {
  const options = {
    ...verb.help,
    '--json': 'one line of JSON on stdout',
    '--api URL': 'default $SELVEDGE_API or http://127.0.0.1:7070',
    '--token TOKEN': 'default $SELVEDGE_TOKEN',
  };
  const width = Math.max(...Object.keys(options).map((name) => name.length));
  return [
    `${verb.summary}\n`,
    `Usage: selvedge ${verb.name} ${verb.usage}\n`,
    'Options:',
    ...Object.entries(options).map(([name, text]) => `  ${name.padEnd(width)}  ${text}`),
    '\nExamples:',
    ...verb.examples.map((example) => `  ${example}`),
    '\nExit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 API not reachable, 4 not done in time\n',
  ].join('\n');
}
