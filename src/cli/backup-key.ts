import { open, rm } from 'node:fs/promises';
import { backupKeyView } from '../api/backup-schemas.ts';
import { CliError, exitCodes, usageError } from './io.ts';
import { clean } from './tables.ts';
import { clusterPath, type Verb } from './verb.ts';

export const backupKey: Verb = {
  name: 'backup-key',
  summary:
    'Take the key of the encrypted backups away: to keep it elsewhere, or for selvedge unpack. Needs an operator.',
  usage: 'NAME --output FILE',
  wordCount: 1,
  options: { output: { type: 'string' } },
  help: { '--output FILE': 'where to, for its owner alone; there must be no such file yet (needed)' },
  examples: ['selvedge backup-key orders --output orders.key'],
  run: async ({ client, io, isJson, words, options }) => {
    const output = options.text('output');
    if (!output) throw usageError('--output is needed');
    const path = `${clusterPath(words[0])}/backup-key`;
    const file = await open(output, 'wx', 0o600).catch((error: Error) => {
      throw new CliError(exitCodes.refused, `${output} cannot be made: ${error.message}`);
    });
    try {
      const { keyId, key } = await client.request({ method: 'POST', path, schema: backupKeyView });
      await file.writeFile(`${key}\n`);
      await file.sync();
      io.out(isJson ? `${JSON.stringify({ output, keyId })}\n` : `${clean(output)}: key ${clean(keyId)}\n`);
      return exitCodes.done;
    } catch (error) {
      await rm(output, { force: true });
      throw error;
    } finally {
      await file.close();
    }
  },
};
