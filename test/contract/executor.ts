/**
 * A real custom executor that does nothing by itself: the contract test tells it what to do over a socket (SELVEDGE_CONTROL
 * is the port) and hears what the agent said. It ends when that socket ends, so that a broken test leaves nothing behind.
 * MODE=silent and MODE=exit never subscribe. At its LAUNCH it leaves a file by-<executor id> in the volume data, as the recorded
 * one did, so that the next one can tell whether the data is still there.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { RecordReader } from './recordio.ts';

type Message = Record<string, unknown>;
const env = process.env;
const agent = `http://${env['MESOS_AGENT_ENDPOINT']}/api/v1/executor`;
const ids = {
  framework_id: { value: env['MESOS_FRAMEWORK_ID'] },
  executor_id: { value: env['MESOS_EXECUTOR_ID'] },
};
const pendingUpdates = new Map<string, Message>();
const pendingTasks = new Map<string, unknown>();

const control = connect(Number(env['SELVEDGE_CONTROL']), '127.0.0.1');
control.on('error', () => process.exit(1));
control.on('close', () => process.exit(1));
const tell = (message: Message) => control.write(`${JSON.stringify(message)}\n`);

/** Links in the sandbox: container path of a volume and where it leads. */
function sandboxLinks(): Record<string, string> {
  const links = readdirSync('.').filter((name) => lstatSync(name).isSymbolicLink());
  return Object.fromEntries(links.map((name) => [name, readlinkSync(name)]));
}

/** Names in each volume. */
function contents(): Record<string, string[]> {
  const volumes = Object.keys(sandboxLinks()).filter((name) => statSync(name).isDirectory());
  return Object.fromEntries(volumes.map((name) => [name, readdirSync(name).sort()]));
}

function post(message: Message, onAnswer: (status: number, body: string) => void): void {
  const body = JSON.stringify({ ...ids, ...message });
  const call = request(agent, { method: 'POST', headers, agent: false }, (answer) => {
    let text = '';
    answer.on('data', (chunk) => {
      text += chunk;
    });
    answer.on('end', () => onAnswer(answer.statusCode ?? 0, text));
  });
  call.on('error', (error) => onAnswer(0, error.message));
  call.end(body);
}
const headers = { 'content-type': 'application/json', accept: 'application/json' };

function subscribe(): void {
  const lists = {
    unacknowledged_tasks: [...pendingTasks.values()],
    unacknowledged_updates: [...pendingUpdates.values()],
  };
  const again = () => setTimeout(subscribe, 25);
  const call = request(agent, { method: 'POST', headers, agent: false }, (answer) => {
    tell({ subscribed: answer.statusCode, streamId: answer.headers['mesos-stream-id'] ?? null });
    const reader = new RecordReader();
    answer.on('data', (chunk: Buffer) => {
      for (const record of reader.push(chunk)) onEvent(record as Message);
    });
    answer.on('close', again);
  });
  call.on('error', again);
  call.end(JSON.stringify({ ...ids, type: 'SUBSCRIBE', subscribe: lists }));
}

function onEvent(event: Message): void {
  if (event['type'] === 'LAUNCH') {
    const task = (event['launch'] as { task: { task_id: { value: string } } }).task;
    pendingTasks.set(task.task_id.value, task);
    if (env['MODE'] !== 'command' && existsSync('data')) writeFileSync(`data/by-${env['MESOS_EXECUTOR_ID']}`, '');
  }
  if (event['type'] === 'SHUTDOWN' && env['MODE'] === 'command') process.exit(0);
  if (event['type'] === 'ACKNOWLEDGED') {
    const { uuid, task_id } = event['acknowledged'] as { uuid: string; task_id: { value: string } };
    pendingUpdates.delete(uuid);
    pendingTasks.delete(task_id.value);
  }
  tell({ saw: event, links: sandboxLinks() });
}

function update(fields: Message): void {
  const uuid = Buffer.from(randomUUID().replaceAll('-', ''), 'hex').toString('base64');
  const { task, ...rest } = fields;
  const status = {
    ...rest,
    task_id: { value: task },
    source: 'SOURCE_EXECUTOR',
    executor_id: ids.executor_id,
    uuid,
    timestamp: Date.now() / 1000,
  };
  pendingUpdates.set(uuid, { status });
  post({ type: 'UPDATE', update: { status } }, (code, body) => tell({ answered: code, body }));
}

createInterface({ input: control }).on('line', (line) => {
  const order = JSON.parse(line) as Message;
  if (order['update']) update(order['update'] as Message);
  if (typeof order['message'] === 'string') {
    const data = Buffer.from(order['message']).toString('base64');
    post({ type: 'MESSAGE', message: { data } }, (code, body) => tell({ answered: code, body }));
  }
  if (typeof order['exit'] === 'number') process.exit(order['exit']);
});

control.on('connect', () => {
  const names = Object.keys(env).sort();
  const checkpoint = env['MESOS_CHECKPOINT'];
  const found = { links: sandboxLinks(), contents: contents() };
  tell({ hello: env['MESOS_EXECUTOR_ID'], pid: process.pid, env: names, checkpoint, ...found });
  if (env['MODE'] !== 'silent' && env['MODE'] !== 'exit') subscribe();
});
