import { same } from './compare.ts';
import { isAbout, takeSeen } from './executors.ts';
import type { DropItem, ExecutorItem, FaultItem, QuietItem } from './golden.ts';
import { asText, dig } from './resources.ts';
import type { Session } from './session.ts';

const causeSeconds = 10;
const terminal = /^TASK_(FINISHED|FAILED|KILLED|ERROR|LOST|DROPPED|GONE)/;
/** What the agent gives a custom executor (and the shell that starts it adds). */
const environment = [
  'LIBPROCESS_IP',
  'MESOS_AGENT_ENDPOINT',
  'MESOS_CHECKPOINT',
  'MESOS_DIRECTORY',
  'MESOS_EXECUTOR_ID',
  'MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD',
  'MESOS_FRAMEWORK_ID',
  'MESOS_SANDBOX',
  'MESOS_SLAVE_ID',
  'PATH',
];
const checkpointEnvironment = ['MESOS_RECOVERY_TIMEOUT', 'MESOS_SUBSCRIPTION_BACKOFF_MAX'];

/**
 * The recorded time passes, counted from the last thing that we did. Nothing may come in it, counted from all that we did in
 * the seconds before: what comes next may be the late consequence (a filter, a timeout) of any of that.
 */
export async function stayQuiet(session: Session, item: QuietItem): Promise<void> {
  const causes = session.anchors.filter(({ t }) => t > item.t - causeSeconds);
  const ends = causes.map(({ t, live }) => live + ((item.t + item.quiet - t) * 1000) / session.target.speed);
  const before = [...session.connections.values()].map((connection) => connection.busy);
  await sleepUntil(Math.min(...ends));
  [...session.connections.values()].forEach((connection, index) => {
    if (connection.busy !== before[index])
      session.differ(`something came in quiet ${item.quiet} s: ${connection.types.slice(-3).join(', ')}`);
  });
  await sleepUntil(Math.max(...ends));
}

async function sleepUntil(end: number): Promise<void> {
  const ms = end - performance.now();
  if (Number.isFinite(ms) && ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
}

/** Lets an executor do what it did, after it has heard what it had heard. */
export async function doExecutor(session: Session, item: ExecutorItem): Promise<void> {
  session.at = `${session.golden.scenario} ${item.t} executor ${item.executor}`;
  if (!(await session.until(`executor ${item.executor}`, () => session.control.byId.has(item.executor)))) return;
  const executor = session.control.byId.get(item.executor)!;
  if (item.finds) {
    for (const [path, names] of Object.entries(item.finds))
      session.note(same(`in volume ${path}`, names, executor.contentsAtStart[path]));
    return;
  }
  const task = item.update ? asText(item.update['task']) : undefined;
  if (item.after && !(await session.until(item.after, () => takeSeen(executor, item.after!, task)))) return;
  if (item.signal) return void process.kill(executor.pid, item.signal);
  if (item.exit !== undefined) return executor.order({ exit: item.exit });
  if (item.update && asText(item.update['state']) === 'TASK_STARTING') checkStart(session, item.executor, task!);
  const answered = executor.answers.length;
  executor.order(item.update ? { update: item.update } : { message: item.message! });
  if (!(await session.until('answer of the agent', () => executor.answers.length > answered))) return;
  const answer = executor.answers[answered]!;
  if (answer.status !== 202) session.differ(`agent answered ${answer.status} ${answer.body}`);
  const state = asText(item.update?.['state']);
  if (session.isReplaced(item.executor) && terminal.test(state)) executor.order({ exit: 0 });
}

function checkStart(session: Session, id: string, task: string): void {
  const executor = session.control.byId.get(id)!;
  const launch = executor.saw.find((entry) => isAbout(entry.event, 'LAUNCH', task));
  const plan = session.launched.get(task);
  const expected = executor.isCheckpointed ? [...environment, ...checkpointEnvironment] : environment;
  const missing = expected.filter((name) => !executor.env.includes(name));
  if (missing.length > 0) session.differ(`environment lacks ${missing.join(', ')}`);
  if (executor.env.includes('HOME')) session.differ('environment has HOME');
  for (const path of plan?.executorPaths ?? [])
    if (!executor.linksAtStart[path]) session.differ(`no volume ${path} in the sandbox at the start of the process`);
  for (const path of plan?.taskPaths ?? [])
    if (!launch?.links[path]) session.differ(`no volume ${path} in the sandbox at LAUNCH`);
  session.note(same('executor SUBSCRIBE', 200, executor.subscribed[0]?.status ?? 0));
  session.note(same('Mesos-Stream-Id for an executor', null, executor.subscribed[0]?.streamId ?? null));
  session.note(same('first event', 'SUBSCRIBED', dig(executor.saw[0]?.event, 'type')));
}

/** Kills or starts an agent or the master. */
export async function doFault(session: Session, item: FaultItem): Promise<void> {
  session.at = `${session.golden.scenario} ${item.t} ${item.fault}`;
  const faults = session.target.faults;
  if (!faults) throw new Error(`${item.fault} is not possible here`);
  if (item.fault === 'kill-master') return faults.killMaster();
  if (item.fault === 'start-master') return faults.startMaster();
  const id = session.ids.liveOf(`$${item.agent}`) ?? '';
  return item.fault === 'kill-agent' ? faults.killAgent(id) : faults.startAgent(id);
}

/** Breaks a connection from the scheduler's side. */
export async function doDrop(session: Session, item: DropItem): Promise<void> {
  const connection = session.connections.get(item.drop);
  connection?.drop();
  await session.until('the connection to close', () => connection?.closed ?? true);
}
