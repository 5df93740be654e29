import type { z } from 'zod';
import { recoveryWindowView } from '../api/recovery-window.ts';
import { exitCodes } from './io.ts';
import { bytes, clean, table, time } from './tables.ts';
import { clusterPath, type Verb } from './verb.ts';

export const window: Verb = {
  name: 'window',
  summary: 'Show to which moments a cluster can be restored.',
  usage: 'NAME [options]',
  wordCount: 1,
  options: {},
  help: {},
  examples: ['selvedge window orders', 'selvedge window orders --json'],
  run: async ({ client, io, isJson, words }) => {
    const path = `${clusterPath(words[0])}/recovery-window`;
    const view = await client.request({ method: 'GET', path, schema: recoveryWindowView });
    io.out(isJson ? `${JSON.stringify(view)}\n` : windowText(view));
    return exitCodes.done;
  },
};

function windowText(view: z.output<typeof recoveryWindowView>): string {
  const { from, to, backupId, rpoMs, gap, members } = view;
  const head =
    from === null
      ? 'Nothing can be restored: there is no backup that goes forward without a gap.\n'
      : `From ${time(from)} (backup ${backupId}) to ${time(to)}.\n`;
  const missing =
    rpoMs === 0
      ? 'All that was acknowledged is archived.\n'
      : `What was acknowledged in the last ${(rpoMs / 1000).toFixed(1)} s is in no archive yet.\n`;
  const hole = gap === '' ? '' : `No archive has ${gap}.\n`;
  const rows = members.flatMap(({ member, archive, isWrittenOff }) => {
    const note = archive?.error?.message ?? (isWrittenOff ? 'will be rebuilt' : null);
    if (!archive) return [[member, null, null, null, null, null, note]];
    const { spans, pendingBytes, archivedAt } = archive;
    return spans.length === 0
      ? [[member, null, null, null, pendingBytes, time(archivedAt), note]]
      : spans.map(({ firstAt, lastAt, gtidSet }, index) =>
          index === 0
            ? [member, time(firstAt), time(lastAt), bytes(archive.bytes), pendingBytes, time(archivedAt), note, gtidSet]
            : [null, time(firstAt), time(lastAt), null, null, null, null, gtidSet],
        );
  });
  const columns = ['MEMBER', 'FROM', 'TO', 'SIZE', 'PENDING', 'ARCHIVED', 'NOTE', 'GTIDS'];
  return `${head}${missing}${clean(hole)}${hole === '' ? '' : '\n'}\n${table(columns, rows)}`;
}
