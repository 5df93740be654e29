import type { z } from 'zod';
import { tailList, type tailView } from '../api/schemas.ts';
import { exitCodes } from './io.ts';
import { clean, table, time } from './tables.ts';
import { clusterPath, type Verb } from './verb.ts';

export const tails: Verb = {
  name: 'tails',
  summary:
    'List writes that only one member had when they were cut off or it was filled anew, and where they are kept.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: {},
  help: {},
  examples: ['selvedge tails orders', "selvedge tails orders --json | jq -r '.tails[0].directory'"],
  run: async ({ client, io, isJson, words }) => {
    const answer = await client.request({ method: 'GET', path: `${clusterPath(words[0])}/tails`, schema: tailList });
    io.out(isJson ? `${JSON.stringify(answer)}\n` : tailsText(answer.tails));
    return exitCodes.done;
  },
};

function tailsText(list: readonly z.output<typeof tailView>[]): string {
  if (list.length === 0) return 'Nothing is kept on the members that are reached.\n';
  const rows = list.map((tail) => [
    time(tail.at),
    tail.member,
    tail.reason,
    tail.transactions,
    tail.bytes,
    tail.hostname,
    tail.volume,
    tail.id,
  ]);
  const places = list.map(({ hostname, directory, files, gtidSet }) => {
    const names = files.map(({ name }) => name).join(' ');
    return `\n${clean(`${hostname ?? '-'}:${directory ?? '-'}`)}\n  ${clean(names)}\n  ${clean(gtidSet)}\n`;
  });
  const head = ['TIME', 'MEMBER', 'WHY', 'TRANSACTIONS', 'BYTES', 'HOST', 'VOLUME', 'ID'];
  return [table(head, rows), ...places].join('');
}
