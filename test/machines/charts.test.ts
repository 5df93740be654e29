import { expect, test } from 'vitest';
import type { AnyStateMachine, StateNode } from 'xstate';
import { backupMachine } from '../../src/machines/backup.ts';
import { failoverMachine } from '../../src/machines/failover.ts';
import { memberMachine } from '../../src/machines/member.ts';
import { rebuildMachine } from '../../src/machines/rebuild.ts';
import { removalMachine } from '../../src/machines/removal.ts';
import { restoreMachine } from '../../src/machines/restore.ts';
import { retirementMachine } from '../../src/machines/retirement.ts';
import { verifyMachine } from '../../src/machines/verify.ts';

const machines: readonly AnyStateMachine[] = [
  memberMachine,
  failoverMachine,
  backupMachine,
  verifyMachine,
  removalMachine,
  rebuildMachine,
  restoreMachine,
  retirementMachine,
];

/** A drawing that GitHub renders and a reviewer can diff. */
function draw(machine: AnyStateMachine): string {
  const lines = [`    [*] --> ${String(machine.config.initial)}`];
  const guardOf = (guard: unknown) => (typeof guard === 'object' && guard ? (guard as { type: string }).type : guard);
  for (const node of Object.values(machine.root.states) as StateNode[]) {
    for (const transition of [...(node.always ?? []), ...[...node.transitions.values()].flat()]) {
      const event = transition.eventType
        .replace(/^xstate\.done\.actor\..*/, 'done')
        .replace(/^xstate\.error\.actor\..*/, 'error')
        .replace(/^xstate\.after\.([^.]+)\..*/, 'deadline $1');
      const guard = transition.guard ? ` [${String(guardOf(transition.guard))}]` : '';
      for (const target of transition.target ?? [])
        lines.push(`    ${node.key} --> ${target.key}: ${event}${guard}`.trimEnd());
    }
    if (node.type === 'final') lines.push(`    ${node.key} --> [*]`);
  }
  return `# ${machine.id}\n\nGenerated from \`src/machines/${machine.id}.ts\`; a test compares the two.\n\n\`\`\`mermaid\nstateDiagram-v2\n${lines.join('\n')}\n\`\`\`\n`;
}

for (const machine of machines) {
  test(`charts/${machine.id}.md shows the ${machine.id} machine`, async () => {
    await expect(draw(machine)).toMatchFileSnapshot(`../../charts/${machine.id}.md`);
  });

  test(`every working state of ${machine.id} has a way on, a way out and a deadline`, () => {
    for (const node of Object.values(machine.root.states) as StateNode[]) {
      const events = [...node.transitions.keys()];
      if (node.invoke.length > 0) {
        expect(
          events.some((event) => event.startsWith('xstate.done.actor')),
          `${node.id} onDone`,
        ).toBe(true);
        expect(
          events.some((event) => event.startsWith('xstate.error.actor')),
          `${node.id} onError`,
        ).toBe(true);
        expect(
          events.some((event) => event.startsWith('xstate.after')),
          `${node.id} deadline`,
        ).toBe(true);
      } else if (node.type !== 'final' && !node.always?.length) {
        expect(
          events.some((event) => event.startsWith('xstate.after')),
          `${node.id} deadline`,
        ).toBe(true);
      }
    }
  });

  test(`every state of ${machine.id} can be reached, and none is a trap`, () => {
    const states = Object.values(machine.root.states) as StateNode[];
    const targets = (node: StateNode) =>
      [...(node.always ?? []), ...[...node.transitions.values()].flat()]
        .flatMap((t) => t.target ?? [])
        .map((t) => t.key);
    const reached = new Set<string>([String(machine.config.initial)]);
    for (const key of reached) for (const target of targets(machine.root.states[key]!)) reached.add(target);

    expect([...reached].sort()).toEqual(states.map((node) => node.key).sort());
    for (const node of states) if (node.type !== 'final') expect(targets(node).length, node.id).toBeGreaterThan(0);
  });
}
