/** What is wrong with a member that runs, from its status. Pure; thresholds are of the usual kind, not of the cluster. */
import type { Trouble } from './state.ts';

/** A volume this full wants a person before MySQL stops writing. */
const fillMax = 0.9;
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
  readonly volumes: readonly { readonly name: string; readonly totalMb: number; readonly usedMb: number }[];
}

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
  for (const { name, totalMb, usedMb } of signs.volumes) {
    if (totalMb <= 0 || usedMb / totalMb < fillMax) continue;
    const percent = Math.floor((usedMb / totalMb) * 100);
    troubles.push({
      code: 'VolumeFilling',
      message: `its ${name} volume is ${percent}% full (${usedMb} of ${totalMb} MB)`,
    });
  }
  return troubles;
}
