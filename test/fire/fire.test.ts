import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { FireResult } from './fire.ts';
import { tableOf } from './report.ts';

/** `npm run test:fire` does the same for as long as one likes, with other seeds. */
const seconds = 60;
const seed = 7;
const timeoutMs = 300_000;
const runFile = join(import.meta.dirname, 'run.ts');

test(
  'whatever is struck, no acknowledged row is lost, the register is linearisable, and the cluster is whole again',
  async ({ signal, onTestFinished }) => {
    const directory = mkdtempSync(join(tmpdir(), 'fire-test-'));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    const jsonFile = join(directory, 'result.json');
    const args = ['--seconds', String(seconds), '--seed', String(seed), '--json', jsonFile];
    // A process of its own: only so it can have a network of its own.
    const child = spawn(process.execPath, [runFile, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    signal.addEventListener('abort', () => child.kill('SIGTERM'));
    const ended = once(child, 'close');
    let told = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        told += text;
      });

    const [exitCode] = await ended;

    expect(exitCode, told).toBe(0);
    const result = JSON.parse(readFileSync(jsonFile, 'utf8')) as FireResult;
    console.info(tableOf(result).join('\n'));
    expect(result.blows.length).toBeGreaterThan(3);
    expect([...result.blows, ...result.checks].filter(({ fault }) => fault !== null)).toEqual([]);
    expect(result.isGood).toBe(true);
  },
  timeoutMs,
);
