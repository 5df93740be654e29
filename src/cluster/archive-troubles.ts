/** What people should know of a cluster's archive, as conditions beside its state. */
export interface ArchiveTrouble {
  readonly type: 'ArchiveBehind' | 'ArchiveGap';
  readonly reason: string;
  readonly message: string;
}

export interface ArchiveSigns {
  /** Age of the oldest acknowledged transaction that is in no archive; 0: all is archived. */
  readonly rpoMs: number;
  /** GTIDs that no archive has although later ones are archived; '' for none. */
  readonly gap: string;
  readonly gapSince: number | null;
  readonly members: readonly {
    readonly ordinal: number;
    readonly error: { readonly code: string; readonly message: string } | null;
    /** Logs that are not archived will be purged for room. */
    readonly isBehind: boolean;
    /** When archived logs that a kept backup needed last went. */
    readonly cutAt: number | null;
  }[];
  readonly now: number;
}

/** A busy member needs seconds; more means that something is wrong. */
export const RPO_MAX_MS = 60_000;
/** Another member may be about to archive it. */
const GAP_TOLD_AFTER_MS = 30_000;
const CUT_TOLD_MS = 24 * 3_600_000;
const GAP_SHOWN = 300;

/** At most one of a type, the gravest. */
export function findArchiveTroubles({ rpoMs, gap, gapSince, members, now }: ArchiveSigns): ArchiveTrouble[] {
  const troubles: ArchiveTrouble[] = [];
  const behind = members.filter(({ isBehind }) => isBehind).map(({ ordinal }) => ordinal);
  const held = members.flatMap(({ ordinal, error }) => (error ? [`member ${ordinal}: ${error.message}`] : []));
  const add = (type: ArchiveTrouble['type'], reason: string, message: string) =>
    troubles.push({ type, reason, message });
  if (behind.length > 0) {
    const who = `member ${behind.join(', ')}`;
    const cause = held.length > 0 ? `: ${held.join('; ')}` : '';
    add(
      'ArchiveBehind',
      'WillBePurged',
      `${who} has no room for binary logs that are not archived: they go soon${cause}`,
    );
  } else if (rpoMs > RPO_MAX_MS) {
    const seconds = Math.round(rpoMs / 1000);
    const cause = held.length > 0 ? `: ${held.join('; ')}` : '';
    add('ArchiveBehind', 'NotArchived', `What was acknowledged in the last ${seconds} s is in no archive${cause}`);
  } else if (held.length > 0) add('ArchiveBehind', 'HeldUp', held.join('; '));
  const cut = members.filter(({ cutAt }) => cutAt !== null && now - cutAt < CUT_TOLD_MS).map(({ ordinal }) => ordinal);
  if (gap !== '' && gapSince !== null && now - gapSince >= GAP_TOLD_AFTER_MS) {
    const shown = gap.length > GAP_SHOWN ? `${gap.slice(0, GAP_SHOWN)}…` : gap;
    add('ArchiveGap', 'Missing', `No archive has ${shown}: no restore goes past it but from a newer backup`);
  } else if (cut.length > 0) {
    const who = `member ${cut.join(', ')}`;
    add('ArchiveGap', 'WindowCut', `The archive of ${who} used up its share: logs that a kept backup needs have gone`);
  }
  return troubles;
}
