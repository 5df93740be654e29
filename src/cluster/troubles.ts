/** What is wrong with a member, from its status. Pure; thresholds are of the usual kind, not of the cluster. */
import type { Trouble } from './state.ts';

/** A volume this full wants a person before MySQL stops writing. */
const fillMax = 0.9;
/** It is told until there is more room than this: binary logs come and go. */
const fillEnough = 0.87;
/** A replica that is so far behind and applies nothing is stuck, not slow. */
const stuckMs = 60_000;
const answerMs = 3000;

export interface MemberSigns {
  readonly isReplica: boolean;
  readonly receiver: 'on' | 'connecting' | 'off' | null;
  readonly receiverError: string;
  readonly applier: 'on' | 'off' | null;
  readonly applierError: string;
  readonly lagMs: number | null;
  readonly probeFailing: { readonly forMs: number; readonly message: string } | null;
}

export interface VolumeSigns {
  /** `data` or `backup`. */
  readonly name: string;
  readonly totalMb: number;
  readonly usedMb: number;
  /** It was called filling at the last look. */
  readonly wasFilling: boolean;
}

/** Of any member whose executor answers: a full volume may be why mysqld does not run. */
export function findFilling(volumes: readonly VolumeSigns[]): (Trouble & { readonly volume: string })[] {
  return volumes
    .filter(({ totalMb, usedMb, wasFilling }) => totalMb > 0 && usedMb / totalMb >= (wasFilling ? fillEnough : fillMax))
    .map(({ name, totalMb, usedMb }) => {
      const percent = Math.floor((usedMb / totalMb) * 100);
      const message = `its ${name} volume is ${percent}% full (${usedMb} of ${totalMb} MB)`;
      return { code: 'VolumeFilling', message, volume: name };
    });
}

/** Of a member whose mysqld runs. */
export function findTroubles(signs: MemberSigns): Trouble[] {
  const troubles: Trouble[] = [];
  const { probeFailing, lagMs } = signs;
  if (probeFailing && probeFailing.forMs >= answerMs) {
    const seconds = Math.round(probeFailing.forMs / 1000);
    troubles.push({
      code: 'NotAnswering',
      message: `mysqld has not answered for ${seconds} s: ${probeFailing.message}`,
    });
  }
  if (signs.isReplica && signs.applierError !== '') {
    troubles.push({ code: 'ApplierError', message: `the applier stopped: ${signs.applierError}` });
  } else if (signs.isReplica && signs.applier === 'on' && lagMs !== null && lagMs >= stuckMs) {
    const seconds = Math.round(lagMs / 1000);
    troubles.push({ code: 'ApplierStuck', message: `it is ${seconds} s behind although its applier runs` });
  }
  if (signs.isReplica && signs.receiver !== 'on' && signs.receiverError !== '') {
    troubles.push({ code: 'ReceiverError', message: `it does not receive: ${signs.receiverError}` });
  }
  return troubles;
}
