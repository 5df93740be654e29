/**
 * How a gap in one member's archive is filled from another one's, so that the loss of the other one loses nothing.
 * Rules:
 * - A member is looked after as far back as its own oldest good backup: without one its archive leads nowhere by itself.
 * - A gap is what lies before something that the member archived; what is on its way is none.
 * - Nothing is fetched that is there, and nothing that adds nothing. Only closed logs: an open one still changes.
 * - A replica gives rather than the primary, unless the primary has more.
 */
import { type ArchiveSpan, bySequence, findCoverage, type LogSegment } from './archive.ts';
import {
  compactGtidSet,
  countGtids,
  type GtidSet,
  hasCommonGtids,
  isGtidSetEmpty,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from './gtid-set.ts';

export interface RefillMember {
  readonly ordinal: number;
  readonly isPrimary: boolean;
  /** Its executor can be asked now. */
  readonly isReachable: boolean;
  /** It knows how to fetch, and has room for more. */
  readonly mayFetch: boolean;
  readonly spans: readonly ArchiveSpan[];
  /** Set of its oldest good backup; null: it has none. */
  readonly from: string | null;
}

export interface Refill {
  /** Who fetches. */
  readonly ordinal: number;
  readonly donor: number;
  /** What it lacks and the donor has. */
  readonly gtidSet: string;
}

/** What lies before something archived, after the oldest backup, acknowledged, and not in this archive. '' for none. */
export function findOwnGap({ spans, from }: Pick<RefillMember, 'spans' | 'from'>, acknowledged: string): string {
  return from === null ? '' : findCoverage({ spans, acknowledged, from }).gap;
}

/** The next refill of a cluster; null when there is none. `mayAsk`: this donor for this member, now. */
export function findRefill(
  members: readonly RefillMember[],
  acknowledged: string,
  mayAsk: (ordinal: number, donor: number) => boolean = () => true,
): Refill | null {
  for (const member of members) {
    if (!member.isReachable || !member.mayFetch) continue;
    const gap = parseGtidSet(findOwnGap(member, acknowledged));
    if (isGtidSetEmpty(gap)) continue;
    const offers = members
      .filter(({ ordinal, isReachable }) => ordinal !== member.ordinal && isReachable)
      .filter(({ ordinal }) => mayAsk(member.ordinal, ordinal))
      .map((donor) => ({ donor, gain: intersect(gap, setOf(donor.spans)) }))
      .filter(({ gain }) => !isGtidSetEmpty(gain));
    const [best] = offers.toSorted(
      (a, b) =>
        Number(countGtids(b.gain) - countGtids(a.gain)) ||
        Number(a.donor.isPrimary) - Number(b.donor.isPrimary) ||
        a.donor.ordinal - b.donor.ordinal,
    );
    if (best) return { ordinal: member.ordinal, donor: best.donor.ordinal, gtidSet: compactGtidSet(best.gain) };
  }
  return null;
}

const setOf = (spans: readonly ArchiveSpan[]): GtidSet =>
  unionGtidSets(...spans.map(({ gtidSet }) => parseGtidSet(gtidSet)));
const intersect = (left: GtidSet, right: GtidSet): GtidSet => subtractGtidSets(left, subtractGtidSets(left, right));

export interface OfferedSegment extends LogSegment {
  /** Null while it grows. */
  readonly sha256: string | null;
}

/**
 * Which of the logs in a donor's archive are fetched for `wanted`, in order, and what of it they do not hold.
 * `isHeld`: a log of that name is here already, or was and has gone by its age.
 */
export function chooseSegments<T extends OfferedSegment>(
  offered: readonly T[],
  { wanted, isHeld }: { readonly wanted: string; readonly isHeld: (segment: T) => boolean },
): { readonly segments: readonly T[]; readonly left: string } {
  let left = parseGtidSet(wanted);
  const segments: T[] = [];
  for (const segment of offered.toSorted(bySequence)) {
    if (segment.sha256 === null || isHeld(segment)) continue;
    const own = parseGtidSet(segment.gtidSet);
    if (!hasCommonGtids(own, left)) continue;
    left = subtractGtidSets(left, own);
    segments.push(segment);
  }
  return { segments, left: compactGtidSet(left) };
}
