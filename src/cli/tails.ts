import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { z } from 'zod';
import { tailList, tailText, type tailView } from '../api/schemas.ts';
import { CliError, type ExitCode, exitCodes } from './io.ts';
import { saveDownload } from './save-download.ts';
import { clean, table, time } from './tables.ts';
import { clusterPath, type Verb, type VerbContext } from './verb.ts';

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

const PAGE_PATH = (path: string, offset: number) => `${path}/text?limit=1048576&offset=${offset}`;

export const tail: Verb = {
  name: 'tail',
  summary: 'Show what is in a tail, each row as a comment; or take its files away.',
  usage: 'NAME TAIL-ID [--output DIRECTORY]',
  wordCount: 2,
  options: { output: { type: 'string' } },
  help: { '--output DIRECTORY': 'write its files there instead: the binary log, its text, relay logs' },
  examples: ['selvedge tail orders 0b6e… | less', 'selvedge tail orders 0b6e… --output ./tail'],
  run: async (context) => {
    const { client, io, isJson, words, options } = context;
    const list = `${clusterPath(words[0])}/tails`;
    const { tails: all } = await client.request({ method: 'GET', path: list, schema: tailList });
    const found = all.find(({ id }) => id === words[1]);
    if (!found)
      throw new CliError(exitCodes.refused, `No member that is reached keeps a tail ${clean(words[1] ?? '')}.`);
    const path = `${list}/${encodeURIComponent(found.id)}`;
    const output = options.text('output');
    if (output !== undefined) return save(context, { path, output, files: found.files });
    for (let offset: number | null = 0; offset !== null; ) {
      const page: z.output<typeof tailText> = await client.request({
        ...{ method: 'GET', path: PAGE_PATH(path, offset), schema: tailText },
      });
      io.out(isJson ? `${JSON.stringify(page)}\n` : page.text.split('\n').map(clean).join('\n'));
      offset = page.nextOffset;
    }
    return exitCodes.done;
  },
};

/** Each file has its name when it is whole. */
async function save(
  { client, io, isJson }: VerbContext,
  { path, output, files }: { path: string; output: string; files: z.output<typeof tailView>['files'] },
): Promise<ExitCode> {
  await mkdir(output, { recursive: true, mode: 0o700 });
  for (const { name } of files) {
    const target = join(output, basename(name));
    await saveDownload(client, `${path}/files/${encodeURIComponent(name)}`, target);
    if (!isJson) io.out(`${clean(target)}\n`);
  }
  if (isJson) io.out(`${JSON.stringify({ output, files })}\n`);
  return exitCodes.done;
}

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
