/**
 * For plans and the rehearsal, where too few voters are reached: the real failover would then read what the dead primary
 * ever logged (post-mortem.ts), and whoever holds all of it may follow. This says whether that way is open, and what it
 * would need. Pure, by the last statuses; the logs themselves are read in the real change only.
 */
import { choosePrimary } from '../cluster/choose-primary.ts';
import { formatGtidSet, ownGtidTag, parseGtidSet, withoutGtidTag } from '../cluster/gtid-set.ts';
import { preferred } from '../cluster/preferences.ts';
import type { ClusterView, MemberView } from './gather.ts';

type Reached = Parameters<typeof choosePrimary>[0]['reached'];

export interface PostMortemOutlook {
  /** Who would follow by the last statuses; null: nobody holds all of it, or nobody knows what is in the logs. */
  readonly candidate: number | null;
  readonly message: string;
}

/** Null: that way is closed, as nobody could read the logs or nobody else is reached. */
export function outlookOfPostMortem(
  { cluster }: ClusterView,
  { ordinal, status, launch, isConnected }: MemberView,
  reached: Reached,
): PostMortemOutlook | null {
  const { rule, preferences } = cluster;
  const voter = rule?.voters.find((one) => one.ordinal === ordinal);
  if (!rule || !launch || !isConnected || !status || status.incarnation !== voter?.incarnation) return null;
  if (reached.length === 0) return null;
  const way = `its binary logs are read if mysqld alone has ended and its executor lives (member ${ordinal})`;
  if (status.gtidExecuted === '')
    return { candidate: null, message: `${way}: who holds all that is in them may follow` };
  const known = formatGtidSet(withoutGtidTag(parseGtidSet(status.gtidExecuted), ownGtidTag));
  const choice = choosePrimary({
    ...{ rule, reached, lastKnownPrimaryGtid: known, isLastKnownFinal: true },
    preferences: preferred(preferences),
  });
  if (choice.kind === 'refused') {
    return { candidate: null, message: `${way}, and nobody who is reached holds all of that by the last statuses` };
  }
  const message = `${way}: member ${choice.ordinal} follows if it holds all that is in them, as it does by the last statuses`;
  return { candidate: choice.ordinal, message };
}
