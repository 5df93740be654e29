/** A failure of setup that a person can mend: the message says how. Exit code 3: something is missing. */
export class SetupError extends Error {
  constructor(exitCode, message) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Progress for people; stdout stays empty. */
export function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}
