/**
 * Who was the primary when, from what the members hold alone: the rows of selvedge.epoch and the binary logs. One writer
 * per epoch shows as one run of one server_uuid that begins with our own epoch row; a run that comes back is a primary
 * of the past that wrote on.
 */
import { join } from 'node:path';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import type { FailoverAnswer } from '../demo/api-client.ts';
import { findRunDirectories } from '../demo/homes.ts';
import type { World } from './world.ts';

export interface EpochRow {
  readonly epoch: number;
  readonly member: number;
  readonly serverUuid: string;
}

/** Transactions of one server_uuid without another's between, as one binary log after the other tells them. */
export interface Run {
  readonly serverUuid: string;
  /** Of its first transaction; '' without a tag. */
  readonly tag: string;
  transactions: number;
}

export interface Holding {
  readonly ordinal: number;
  readonly epochs: readonly EpochRow[];
  readonly runs: readonly Run[];
  /** Its logs begin in the middle of the story: it was filled anew, or earlier ones were purged. */
  readonly beginsLate?: boolean;
}

const eventsAtOnce = 50_000;
const readTimeoutMs = 60_000;
const gtidNext = /^SET @@SESSION\.GTID_NEXT= '([0-9a-f-]{36}):(?:([a-z_][a-z0-9_]*):)?\d+'$/i;

/** Over the socket, as the executor's own account: the binary logs are closed to the team. */
export async function readHoldings({ homes }: World): Promise<Holding[]> {
  return Promise.all(
    homes.map(async ({ ordinal, dataDir }) => {
      const [runDir] = findRunDirectories(dataDir);
      if (!runDir) throw new Error(`member ${ordinal} has no socket`);
      const session = await connect({ socketPath: join(runDir, 's') }, { user: 'selvedge' }, { clock: realClock });
      try {
        const epochs = await session.query<EpochRow>(
          'SELECT epoch, member, server_uuid AS serverUuid FROM selvedge.epoch ORDER BY epoch',
        );
        const [purged] = await session.query<{ gtids: string }>('SELECT @@GLOBAL.gtid_purged AS gtids');
        return { ordinal, epochs, runs: await readRuns(session), beginsLate: purged?.gtids !== '' };
      } finally {
        await session.close();
      }
    }),
  );
}

async function readRuns(session: Session): Promise<Run[]> {
  const runs: Run[] = [];
  const logs = await session.query<{ Log_name: string }>('SHOW BINARY LOGS');
  for (const { Log_name: name } of logs) {
    for (let position: number | null = 4; position !== null; ) {
      const events: { Event_type: string; End_log_pos: number; Info: string }[] = await session.query(
        `SHOW BINLOG EVENTS IN '${name}' FROM ${position} LIMIT ${eventsAtOnce}`,
        [],
        { timeoutMs: readTimeoutMs },
      );
      for (const { Info: info } of events) addTo(runs, info);
      position = events.length < eventsAtOnce ? null : (events.at(-1)?.End_log_pos ?? null);
    }
  }
  return runs;
}

function addTo(runs: Run[], info: string): void {
  const match = gtidNext.exec(info);
  if (!match) return;
  const [, serverUuid = '', tag = ''] = match;
  const last = runs.at(-1);
  if (last?.serverUuid === serverUuid) last.transactions += 1;
  else runs.push({ serverUuid, tag, transactions: 1 });
}

/** What contradicts one writer per epoch; empty when nothing does. */
export function findEpochFaults(holdings: readonly Holding[], changes: readonly FailoverAnswer[]): string[] {
  const faults: string[] = [];
  const [first] = holdings;
  if (!first) return ['no member was read'];
  for (const { ordinal, epochs } of holdings)
    if (JSON.stringify(epochs) !== JSON.stringify(first.epochs)) faults.push(`member ${ordinal} has other epoch rows`);
  for (const { epoch, member } of first.epochs) {
    const change = changes.find(({ outcome, fromEpoch }) => outcome === 'done' && fromEpoch === epoch - 1);
    if (change && change.toPrimary !== member)
      faults.push(`epoch ${epoch} was written by member ${member}, and ${change.toPrimary} was chosen`);
  }
  const expected = withoutRepeats(first.epochs.map(({ serverUuid }) => serverUuid));
  for (const { ordinal, runs, beginsLate = false } of holdings) {
    const found = runs.map(({ serverUuid }) => serverUuid);
    // A member that was filled anew has only the end of the story.
    const end = expected.slice(Math.max(0, expected.length - found.length));
    if (found.join() !== end.join())
      faults.push(
        `the binary logs of member ${ordinal} tell of ${found.join(' ')}, the epoch rows of ${end.join(' ')}`,
      );
    for (const { serverUuid, tag } of found.length === expected.length && !beginsLate ? runs : runs.slice(1))
      if (tag !== 'selvedge') faults.push(`member ${ordinal}: ${serverUuid} began without its epoch row`);
  }
  return faults;
}

const withoutRepeats = (values: readonly string[]): string[] =>
  values.filter((value, index) => value !== values[index - 1]);
