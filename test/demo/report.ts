/** What people see: one line a step, plain when the output is no terminal. */
import type { WriteStream } from 'node:tty';
import type { Verdict } from './verdict.ts';
import { now } from './wait.ts';

export interface StepResult {
  readonly number: number;
  readonly name: string;
  readonly ms: number;
  /** Longest time without an acknowledged write during the step; null before the writer runs. */
  readonly gapMs: number | null;
  readonly detail: string;
}

export interface Report {
  say(text: string): void;
  begin(number: number, name: string): void;
  end(step: StepResult): void;
  fail(error: unknown): void;
  summarise(verdict: Verdict, isGood: boolean, totalMs: number): void;
}

const nameWidth = 30;
const ms = (value: number): string => `${Math.round(value)} ms`.padStart(9);

export function createReport(out: WriteStream): Report {
  const { isTTY } = out;
  const paint = (code: number, text: string) => (isTTY ? `\x1b[${code}m${text}\x1b[0m` : text);
  const line = (text: string) => out.write(`${text}\n`);
  const clear = isTTY ? '\r\x1b[K' : '';
  let running: string | null = null;
  const startedAt = now();
  return {
    say: line,
    begin(number, name) {
      running = name;
      if (isTTY) out.write(paint(2, `  ${number}  ${name} …`));
    },
    end({ number, name, ms: took, gapMs, detail }) {
      running = null;
      const gap = gapMs === null ? ''.padStart(15) : `  gap ${ms(gapMs)}`;
      line(`${clear}  ${paint(32, String(number))}  ${name.padEnd(nameWidth)}${ms(took)}${paint(2, gap)}  ${detail}`);
    },
    fail(error) {
      if (running !== null) line(`${clear}  ${paint(31, '✗')}  ${running}`);
      for (let each = error; each instanceof Error; each = each.cause) line(`     ${paint(31, each.message)}`);
    },
    summarise(verdict, isGood, totalMs) {
      const { total, ...endings } = verdict.unknown;
      const ended = Object.entries(endings).map(([how, count]) => `${count} ${how}`);
      const row = (name: string, value: string | number, isBad = false) =>
        line(`     ${name.padEnd(36)}${isBad ? paint(31, String(value)) : value}`);
      line('');
      row('acknowledged rows', verdict.acknowledged);
      row('acknowledged rows missing', verdict.missing, verdict.missing > 0);
      row('rows found more than once', verdict.duplicates, verdict.duplicates > 0);
      row('rows that nobody wrote', verdict.strangers, verdict.strangers > 0);
      row('unknown outcomes', total === 0 ? '0' : `${total} (${ended.join(', ')})`);
      row('members with different data', verdict.differing, verdict.differing > 0);
      for (const fault of verdict.faults) row('fault', fault, true);
      line('');
      const took = `${((totalMs || now() - startedAt) / 1000).toFixed(1)} s`;
      line(isGood ? paint(32, `  All holds. ${took}`) : paint(31, `  Something does not hold. ${took}`));
    },
  };
}
