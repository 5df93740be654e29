// Run by scripts/setup.mjs: `prepare.ts <cacheDir>` finds the distribution, makes its template and prints where both are.

import { existsSync } from 'node:fs';
import { Refusal } from '../errors.ts';
import { findDistribution } from './distribution.ts';
import { ensureTemplate, templateDir } from './template.ts';

const [cacheDir = ''] = process.argv.slice(2);
try {
  const distribution = await findDistribution({ env: process.env, cacheDir });
  process.stderr.write(`setup: MySQL ${distribution.version} in ${distribution.home}\n`);
  if (!existsSync(templateDir(distribution, cacheDir))) {
    process.stderr.write('setup: initialising the template data directory (some seconds)\n');
  }
  const template = await ensureTemplate(distribution, cacheDir);
  process.stdout.write(JSON.stringify({ mysqld: distribution.mysqld, template }));
} catch (error) {
  process.stderr.write(`setup: ${error instanceof Refusal ? error.message : String((error as Error).stack)}\n`);
  process.exitCode = 1;
}
