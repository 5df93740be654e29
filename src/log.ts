import { type Logger, pino } from 'pino';

export type { Logger };

/** One JSON object a line, on stderr: stdout belongs to `--json` answers. */
export function createLogger(level = 'info'): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}
