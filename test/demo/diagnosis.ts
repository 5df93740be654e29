/** What somebody needs who was not there: states, events, changes of the primary, the end of the log. */
import type { Api } from './api-client.ts';
import type { ControlPlane } from './control-plane.ts';
import { clusterName } from './steps.ts';
import { within } from './wait.ts';

const timeoutMs = 8_000;

/** Tells as much as can be had within 8 s; never throws. */
export async function diagnose(plane: ControlPlane, api: Api, say: (text: string) => void): Promise<void> {
  const [events, cluster, failovers] = await within(
    Promise.all([
      api.events(25).catch(() => []),
      api.cluster(clusterName).catch(() => null),
      api.failovers(clusterName).catch(() => []),
    ]),
    timeoutMs,
    'the diagnosis',
  ).catch(() => [[], null, []] as const);
  say('\n  Last events:');
  for (const { at, kind, ordinal, message } of events)
    say(`     ${new Date(at).toISOString()}  ${kind}${ordinal === null ? '' : ` (${ordinal})`}: ${message}`);
  if (cluster) {
    const { state, epoch, primary, conditions } = cluster;
    say(`\n  Cluster: ${JSON.stringify({ state, epoch, primary, conditions })}`);
    for (const { ordinal, role, phase, instance, isWritable, taskState, message } of cluster.members)
      say(`     ${JSON.stringify({ ordinal, role, phase, instance, isWritable, taskState, message })}`);
  }
  for (const { kind, fromEpoch, outcome, refusal, steps, startedAt } of failovers.slice(0, 3)) {
    const told = steps.map(({ name, at }) => `${name} ${at - startedAt}`).join(', ');
    say(`  ${kind} from epoch ${fromEpoch}: ${outcome} ${refusal?.message ?? ''} (${told})`);
  }
  say(`\n  End of ${plane.logFile}:\n${plane.readLogTail(40)}`);
}
