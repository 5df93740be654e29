/** The client verbs of `selvedge`. main routes to them; `up`, `local`, `scheduler` and `executor` are its own. */

import { backupKey } from './backup-key.ts';
import { backup, backupPolicy, backups, download, verify } from './backups.ts';
import { del, endpoints, ls, purge, rm, status } from './clusters.ts';
import { copy } from './copy.ts';
import { create } from './create.ts';
import { ApiError, createClient } from './http.ts';
import { CliError, type CliIo, type ExitCode, exitCodes, usageError } from './io.ts';
import { events, offers, reservations } from './operations.ts';
import { processIo } from './process-io.ts';
import { restore } from './restore.ts';
import { set } from './set.ts';
import { clean } from './tables.ts';
import { tail, tails } from './tails.ts';
import { helpOf, parseVerb, type Verb } from './verb.ts';
import { window } from './window.ts';
import { failover, rebuild, replaceVolume, switchover } from './work.ts';

const verbs: readonly Verb[] = [
  create,
  copy,
  restore,
  ls,
  status,
  endpoints,
  failover,
  switchover,
  backup,
  backups,
  backupPolicy,
  backupKey,
  verify,
  download,
  window,
  rebuild,
  replaceVolume,
  tails,
  tail,
  set,
  rm,
  del,
  purge,
  events,
  offers,
  reservations,
];

export const clientVerbs: readonly string[] = verbs.map((verb) => verb.name);

/** For main's own `--help`: a line a verb. */
export function clientHelp(): string {
  return verbs.map(({ name, summary }) => `  ${name.padEnd(13)} ${summary}\n`).join('');
}

/**
 * Runs `argv`, the verb first. Never throws for what a person or the API can do wrong; says it on stderr and answers
 * the exit code.
 */
export async function runClientVerb(argv: readonly string[], io: CliIo = processIo()): Promise<ExitCode> {
  const [name, ...args] = argv;
  const verb = verbs.find((one) => one.name === name);
  // Scripts that ask for JSON get errors as JSON too, also those of usage.
  const isJson = args.includes('--json');
  try {
    if (!verb) throw usageError(`There is no verb ${name ?? ''}; there are ${clientVerbs.join(', ')}`);
    return await runVerb(verb, args, io);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    io.err(isJson ? `${JSON.stringify(toJson(error))}\n` : toText(error, verb));
    return error.exitCode;
  }
}

async function runVerb(verb: Verb, args: readonly string[], io: CliIo): Promise<ExitCode> {
  if (args.includes('--help') || args.includes('-h')) {
    io.out(helpOf(verb));
    return exitCodes.done;
  }
  const { words, options } = parseVerb(verb, args);
  if (words.length !== verb.wordCount) throw usageError(`This takes: selvedge ${verb.name} ${verb.usage}`);
  const client = createClient(io, { api: options.text('api'), token: options.text('token') });
  return verb.run({ io, client, isJson: options.has('json'), words, options });
}

function toText(error: CliError, verb: Verb | undefined): string {
  const lines = error.message.split('\n').map(clean);
  if (error.exitCode === exitCodes.usage && verb) lines.push(`See: selvedge ${verb.name} --help`);
  return lines.map((line) => `${line}\n`).join('');
}

function toJson(error: CliError): unknown {
  if (error instanceof ApiError && error.problem !== null) return error.problem;
  return { detail: error.message, exitCode: error.exitCode };
}
