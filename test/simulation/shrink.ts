/**
 * The smallest part of what a seed draws that still breaks the same guarantee: delta debugging (Zeller and Hildebrandt,
 * "Simplifying and isolating failure-inducing input"), one fault at a time in the end.
 */
export interface Shrunk {
  /** Ids that are needed: without any one of them, the others alone break nothing (`isMinimal`). */
  readonly kept: readonly number[];
  readonly without: readonly number[];
  readonly runs: number;
  /** False: the limit of runs or of time came first, and the story may hold more than it needs. */
  readonly isMinimal: boolean;
}

export interface ShrinkOptions {
  /** Everything that was drawn, and that breaks it. */
  readonly ids: readonly number[];
  /** Runs the seed without these; true when the same guarantee is broken. */
  readonly breaks: (without: readonly number[]) => Promise<boolean>;
  readonly runsMax: number;
  /** Time is up. */
  readonly isOver: () => boolean;
}

export async function shrink({ ids, breaks, runsMax, isOver }: ShrinkOptions): Promise<Shrunk> {
  let kept: readonly number[] = ids;
  let runs = 0;
  const isSpent = () => runs >= runsMax || isOver();
  const without = (part: readonly number[]) => ids.filter((id) => !part.includes(id));
  const stillBreaks = (part: readonly number[]) => {
    runs += 1;
    return breaks(without(part));
  };
  const findSmaller = async (parts: number): Promise<readonly number[] | null> => {
    const size = Math.ceil(kept.length / parts);
    for (let from = 0; from < kept.length && !isSpent(); from += size) {
      const rest = [...kept.slice(0, from), ...kept.slice(from + size)];
      if (await stillBreaks(rest)) return rest;
    }
    return null;
  };

  const answer = (isMinimal: boolean): Shrunk => ({ kept, without: without(kept), runs, isMinimal });

  if (isSpent()) return answer(false);
  // Nothing at all is the smallest of all: then the faults have no part in it.
  if (kept.length > 0 && (await stillBreaks([]))) kept = [];
  let parts = 2;
  while (kept.length > 1) {
    parts = Math.min(parts, kept.length);
    const smaller = await findSmaller(parts);
    if (smaller) {
      kept = smaller;
      parts = Math.max(2, parts - 1);
    } else if (isSpent()) return answer(false);
    else if (parts === kept.length) break;
    else parts *= 2;
  }
  return answer(true);
}
