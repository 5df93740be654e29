/** What happened, for people: the last lines of it tell why a seed fails. */
import type { Logger } from '../../src/log.ts';

export interface Story {
  tell(who: string, text: string): void;
  lines(): readonly string[];
  logger(who: string): Logger;
}

export function createStory(now: () => number): Story {
  const start = now();
  const lines: string[] = [];
  const tell = (who: string, text: string) => {
    const at = ((now() - start) / 1000).toFixed(3).padStart(8);
    lines.push(`${at} ${who.padEnd(14)} ${text}`);
  };
  const describe = (fields: unknown, message: unknown): string => {
    if (typeof fields === 'string') return fields;
    const parts: string[] = [];
    for (const [key, value] of Object.entries((fields ?? {}) as Record<string, unknown>)) {
      if (value === undefined) continue;
      if (value instanceof Error) {
        const code = 'code' in value ? `${String(value.code)}: ` : '';
        parts.push(`${code}${value.message}${value.cause instanceof Error ? ` (${value.cause.message})` : ''}`);
      } else parts.push(`${key}=${typeof value === 'object' ? JSON.stringify(value) : String(value)}`);
    }
    return `${String(message)} ${parts.join(' ')}`.slice(0, 400);
  };
  return {
    tell,
    lines: () => lines,
    logger(who) {
      const write = (level: string) => (fields: unknown, message?: unknown) =>
        tell(who, `${level}${describe(fields, message)}`);
      const quiet = () => {};
      const logger = {
        level: 'info',
        info: write(''),
        warn: write('WARN '),
        error: write('ERROR '),
        fatal: write('FATAL '),
        debug: quiet,
        trace: quiet,
        silent: quiet,
        child: () => logger,
      };
      return logger as unknown as Logger;
    },
  };
}
