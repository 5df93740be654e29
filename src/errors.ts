/**
 * Catalogue of every error and refusal: code, HTTP status, what it means, what to do.
 * docs/errors.md says the same for people; a test compares the two in both directions.
 */
export const errors = {
  BAD_REQUEST: { status: 400, title: 'The request is not valid', todo: 'Mend every fault listed under `faults`.' },
  UNAUTHORIZED: { status: 401, title: 'No valid token', todo: 'Send `Authorization: Bearer <token>`.' },
  NOT_FOUND: { status: 404, title: 'There is no such thing', todo: 'Look at the list of its kind.' },
  NAME_TAKEN: {
    status: 409,
    title: 'A cluster of this name exists',
    todo: 'Choose another name or delete that cluster first.',
  },
  OPERATION_OPEN: {
    status: 409,
    title: 'Another operation of this kind is open',
    todo: 'Wait for it or look at its steps.',
  },
  CLUSTER_DELETING: {
    status: 409,
    title: 'The cluster is being deleted',
    todo: 'Nothing: wait until it is gone, or use another cluster.',
  },
  PRECONDITION: {
    status: 409,
    title: 'ifPrimary or ifEpoch does not match',
    todo: 'Read the cluster again and decide anew.',
  },
  TOO_LARGE: { status: 413, title: 'The body is too large', todo: 'Send less.' },
  UNSUPPORTED_MEDIA: { status: 415, title: 'The body is not JSON', todo: 'Send `Content-Type: application/json`.' },
  NEVER_PLACEABLE: {
    status: 422,
    title: 'No agent could ever hold a member',
    todo: 'Ask for less or add a larger agent.',
  },
  NOT_SUPPORTED: { status: 501, title: 'Not supported yet', todo: "See the README's table." },
  NOT_CONNECTED: { status: 503, title: 'Not connected to Mesos', todo: 'Try again when /readyz answers 200.' },
  INTERNAL: { status: 500, title: 'A fault of Selvedge', todo: 'Look into the log of the scheduler.' },
  STALE_LEADER: { status: 409, title: 'A newer leader exists', todo: 'Nothing: the newer leader goes on.' },
  STALE_EPOCH: {
    status: 409,
    title: 'The command carries an older epoch',
    todo: 'Nothing: a newer primary was chosen.',
  },
  MYSQL_MISSING: {
    status: 503,
    title: 'There is no MySQL on this machine',
    todo: 'Run `npm run setup`, or set SELVEDGE_MYSQL_HOME to an unpacked MySQL 9.7.',
  },
  MYSQL_UNSUPPORTED: {
    status: 503,
    title: 'This MySQL is not supported',
    todo: 'Use MySQL 9.7, or accept another series with --allow-untested-version.',
  },
} as const satisfies Record<string, { status: number; title: string; todo: string }>;

export type ErrorCode = keyof typeof errors;

/** An expected refusal: has a code from the catalogue, facts for people, and never a stack in an answer. */
export class Refusal extends Error {
  readonly code: ErrorCode;
  readonly facts: Readonly<Record<string, unknown>>;
  constructor(code: ErrorCode, message: string, facts: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.facts = facts;
  }
}
