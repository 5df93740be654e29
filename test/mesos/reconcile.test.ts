import { expect, test } from 'vitest';
import {
  forgetTask,
  MAX_BATCH,
  noteAnswer,
  planReconciliation,
  startReconciliation,
  trackTask,
} from '../../src/mesos/reconcile.ts';

const random = () => 0.5;
const task = (taskId: string) => ({ taskId, agentId: 'S1' });

test('what is not answered is asked again, ever more slowly', () => {
  let state = startReconciliation([task('a')], 0);
  const askedAt: number[] = [];
  let now = 0;

  for (let i = 0; i < 7; i += 1) {
    const plan = planReconciliation(state, { now, random });
    expect(plan.batch).toEqual([task('a')]);
    askedAt.push(now);
    state = plan.next;
    now = plan.wakeAt ?? Number.NaN;
  }

  expect(askedAt).toEqual([0, 5000, 15_000, 35_000, 75_000, 135_000, 195_000]);
});

test('what is answered is not asked again, and nothing open sends nothing', () => {
  const asked = planReconciliation(startReconciliation([task('a'), task('b')], 0), { now: 0, random }).next;

  const running = noteAnswer(asked, { ...task('a'), taskState: 'TASK_RUNNING' }, { now: 10, random });
  const done = noteAnswer(running, { ...task('b'), taskState: 'TASK_GONE' }, { now: 20, random });

  expect(planReconciliation(running, { now: 5000, random }).batch).toEqual([task('b')]);
  expect(planReconciliation(done, { now: 100_000, random })).toMatchObject({ batch: [], wakeAt: null });
});

test.each(['TASK_UNREACHABLE', 'TASK_UNKNOWN'] as const)('%s is asked for again until it is certain', (taskState) => {
  let state = startReconciliation([task('a')], 0);
  let now = 0;

  for (let i = 0; i < 5; i += 1) {
    const plan = planReconciliation(state, { now, random });
    expect(plan.batch).toEqual([task('a')]);
    // Mesos' own answer may lack the agent's id; the one that we sent is kept.
    state = noteAnswer(plan.next, { taskId: 'a', agentId: null, taskState }, { now: now + 5, random });
    const { wakeAt, batch } = planReconciliation(state, { now: now + 2000, random });
    expect(batch).toEqual([]);
    expect(wakeAt).toBe(now + 5 + 45_000);
    now = wakeAt ?? Number.NaN;
  }
  state = forgetTask(state, 'a');

  expect(planReconciliation(state, { now: now + 1e9, random }).wakeAt).toBeNull();
});

test('a late UNREACHABLE of a task that was settled opens it again', () => {
  const settled = noteAnswer(
    startReconciliation([task('a')], 0),
    { ...task('a'), taskState: 'TASK_RUNNING' },
    { now: 1, random },
  );

  const doubtful = noteAnswer(settled, { ...task('a'), taskState: 'TASK_UNREACHABLE' }, { now: 2, random });

  expect(planReconciliation(doubtful, { now: 60_002, random }).batch).toEqual([task('a')]);
});

test('many tasks go in batches with a pause between', () => {
  const tasks = Array.from({ length: 2500 }, (_, index) => task(`t${index}`));
  let state = startReconciliation(tasks, 0);
  const sizes: number[] = [];
  const seen = new Set<string>();

  for (let now = 0; now < 3000; now += 1000) {
    const plan = planReconciliation(state, { now, random });
    expect(planReconciliation(plan.next, { now: now + 1, random }).batch).toEqual([]);
    sizes.push(plan.batch.length);
    for (const { taskId } of plan.batch) seen.add(taskId);
    state = plan.next;
    if (sizes.length < 3) expect(plan.wakeAt).toBe(now + 1000);
  }

  expect(sizes).toEqual([MAX_BATCH, MAX_BATCH, 500]);
  expect(seen.size).toBe(2500);
});

test('tasks spread out although they began together', () => {
  let seed = 0;
  const spread = () => (seed = (seed + 0.37) % 1);
  const { next } = planReconciliation(startReconciliation([task('a'), task('b'), task('c')], 0), {
    now: 0,
    random: spread,
  });

  expect(new Set([...next.tasks.values()].map(({ dueAt }) => dueAt)).size).toBe(3);
});

test('a task that is tracked again is due at once', () => {
  const { next } = planReconciliation(startReconciliation([task('a')], 0), { now: 0, random });

  const tracked = trackTask(next, task('a'), 1000);

  expect(planReconciliation(tracked, { now: 1000, random }).batch).toEqual([task('a')]);
});
