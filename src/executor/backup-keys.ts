/** Keys of encrypted backups that commands brought: in memory only, as the other secrets. */
import type { Command } from '../channel/protocol.ts';
import { keyIdOf } from '../cluster/backup-key.ts';
import { parseKey } from './encryption.ts';

/** Whatever needs a key brings it: who was launched anew knows none. Throws BAD_REQUEST. */
export function learnKey(keys: Map<string, Buffer>, command: Command): void {
  const hex = keyIn(command);
  if (hex == null) return;
  const key = parseKey(hex);
  keys.set(keyIdOf(key), key);
}

function keyIn(command: Command): string | null | undefined {
  switch (command.kind) {
    case 'backup':
    case 'verify':
    case 'share':
      return command.backupKey;
    case 'start':
    case 'copy':
    case 'rebuild':
      return command.secrets?.backupKey;
    default:
      return null;
  }
}
