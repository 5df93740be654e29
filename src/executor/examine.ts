/**
 * The post-mortem of a mysqld that was reaped: what it ever logged is final, for nobody else can start it while the
 * volume's lock is ours, and who holds all of it holds every transaction that it can have acknowledged.
 */
import type { Command, CommandResult } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { readLoggedGtids } from '../mysql/logged-gtids.ts';
import { type MemberContext, requireVolumes } from './member-context.ts';
import { withVolumeLock } from './trim.ts';

/** Refuses with BUSY while mysqld lives or starts, REBUILD_UNFINISHED on a half filled volume, BINLOG_UNREADABLE. */
export async function examine(
  context: MemberContext,
  { timeoutMs }: Extract<Command, { kind: 'examine' }>,
  signal: AbortSignal,
): Promise<CommandResult> {
  requireVolumes(context);
  const { marker, clock } = context;
  if (context.process || context.dying || context.work?.outcome === 'running') {
    throw new Refusal('BUSY', `mysqld is ${context.phase}: only an ended one is examined`);
  }
  if (marker?.fill !== 'filled' || marker.trim) {
    throw new Refusal('REBUILD_UNFINISHED', 'the data directory is not as mysqld left it');
  }
  const late = new AbortController();
  const timer = clock.setTimeout(
    () => late.abort(new Refusal('TIMED_OUT', `the binary log was not read within ${timeoutMs} ms`)),
    timeoutMs,
  );
  try {
    const within = AbortSignal.any([signal, late.signal]);
    const gtidLogged = await withVolumeLock(context, () => readLoggedGtids(context.paths.dataDir, within));
    return { outcome: 'done', gtidLogged };
  } finally {
    clock.clearTimeout(timer);
  }
}
