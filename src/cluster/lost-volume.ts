/**
 * Whether a volume that lost its marker may be taken anew. Pure. A disk that is not mounted leaves an empty directory in
 * its place, as a new disk does: what is filled there lies on the agent's own disk, and the right one may be back any
 * time. So only what cannot be that is taken without a person.
 */

/** What an executor found, as in Status.volumesFound. */
export interface VolumeFound {
  readonly place: string;
  readonly isOwnDevice: boolean;
  readonly isMarked: boolean;
  readonly isEmpty: boolean;
}

/** What is remembered of the volume when it last had its marker. */
export interface VolumeKnown {
  readonly place?: string;
  readonly isOwnDevice?: boolean;
  /** Mesos made it for this launch. */
  readonly isNew?: boolean;
}

export interface VolumeVerdict {
  /** take: it is certain that what was there is gone. ask: a person must say so. foreign: never taken. */
  readonly kind: 'take' | 'ask' | 'foreign';
  readonly message: string;
}

/** Null: the volume has its marker, nothing is lost. */
export function judgeVolume(name: 'data' | 'backup', found: VolumeFound, known: VolumeKnown): VolumeVerdict | null {
  if (found.isMarked) return null;
  if (!found.isEmpty) {
    const message = `the ${name} volume has no marker of this member and is not empty: it is not touched`;
    return { kind: 'foreign', message };
  }
  if (known.isNew) return { kind: 'take', message: `a new ${name} volume was made` };
  if (found.place === known.place) return { kind: 'take', message: `the ${name} volume was emptied` };
  if (found.isOwnDevice) return { kind: 'take', message: `another, empty disk is the ${name} volume` };
  const why = known.isOwnDevice
    ? 'it was a disk of its own, which is not mounted'
    : 'an empty directory lies in its place, as when a disk is not mounted';
  return { kind: 'ask', message: `the ${name} volume is lost or away: ${why}` };
}
