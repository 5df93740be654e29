import type { Clock } from '../clock.ts';

/** What a verb sees of the world; main gives the process's own. */
export interface CliIo {
  /** To stdout: answers. */
  readonly out: (text: string) => void;
  /** To stderr: progress and errors. */
  readonly err: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Asks the person; null when there is no terminal. */
  readonly ask: (question: string) => Promise<string | null>;
  /** Aborted on Ctrl-C: ends waiting and following. */
  readonly signal?: AbortSignal;
}

/** docs and `--help` name these; scripts rely on them. */
export const exitCodes = { done: 0, refused: 1, usage: 2, notReachable: 3, timedOut: 4 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Ends a verb with an exit code and what to say on stderr. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  constructor(exitCode: ExitCode, message: string) {
    super(message);
    this.name = 'CliError';
    this.exitCode = exitCode;
  }
}

export function usageError(message: string): CliError {
  return new CliError(exitCodes.usage, message);
}
