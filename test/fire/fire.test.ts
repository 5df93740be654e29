import { expect, test } from 'vitest';
import { runFire, tableOf } from './fire.ts';

/** `npm run test:fire` does the same for as long as one likes, with other seeds. */
const seconds = 40;
const seed = 7;
const timeoutMs = 200_000;

test(
  'whatever is struck, no acknowledged row is lost, the register is linearisable, and the cluster is whole again',
  async ({ signal, onTestFailed }) => {
    const told: string[] = [];
    onTestFailed(() => console.log(told.join('\n')));

    const result = await runFire({ seconds, seed, signal, withDisks: false, say: (text) => told.push(text) });

    told.push(...tableOf(result));
    expect(result.blows.filter(({ fault }) => fault !== null)).toEqual([]);
    expect(result.checks.filter(({ fault }) => fault !== null)).toEqual([]);
    expect(result.isGood).toBe(true);
    expect(result.blows.length).toBeGreaterThan(3);
  },
  timeoutMs,
);
