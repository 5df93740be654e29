// A tiny executor: STARTING, RUNNING, then does what it is told by MESSAGE or KILL. Resubscribes when cut off.

import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { appendFileSync, readdirSync } from 'node:fs';
import http from 'node:http';

const { MESOS_AGENT_ENDPOINT, MESOS_FRAMEWORK_ID, MESOS_EXECUTOR_ID, MODE = 'run' } = process.env;
const [host, port] = MESOS_AGENT_ENDPOINT.split(':');
const ids = { framework_id: { value: MESOS_FRAMEWORK_ID }, executor_id: { value: MESOS_EXECUTOR_ID } };
const tasks = new Map();
const updates = new Map();
console.log(JSON.stringify({ env: process.env, entries: readdirSync('.').sort() }));
if (MODE === 'exit') process.exit(3);
if (MODE === 'silent') setInterval(() => {}, 1000);
else subscribe();
if (MODE === 'children') {
  spawn('sleep', ['1000'], { stdio: 'ignore' });
  console.log('child');
}

function post(call, onResponse) {
  const body = JSON.stringify({ ...ids, ...call });
  const request = http.request(
    {
      host,
      port,
      path: '/api/v1/executor',
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    },
    onResponse ?? ((response) => response.resume()),
  );
  request.on('error', () => onResponse && retry());
  request.end(body);
}
let isRetrying = false;
function retry() {
  if (isRetrying) return;
  isRetrying = true;
  setTimeout(() => {
    isRetrying = false;
    subscribe();
  }, 200);
}
function subscribe() {
  post(
    {
      type: 'SUBSCRIBE',
      subscribe: {
        unacknowledged_tasks: [...tasks.values()],
        unacknowledged_updates: [...updates.values()].map((status) => ({ status })),
      },
    },
    (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        return retry();
      }
      let buffer = Buffer.alloc(0);
      response.on('data', (chunk) => {
        buffer = Buffer.concat([buffer, chunk]);
        for (;;) {
          const at = buffer.indexOf(10);
          if (at === -1) return;
          const length = Number(buffer.subarray(0, at).toString());
          if (buffer.length < at + 1 + length) return;
          handle(JSON.parse(buffer.subarray(at + 1, at + 1 + length).toString()));
          buffer = buffer.subarray(at + 1 + length);
        }
      });
      response.on('close', retry);
      response.on('error', () => {});
    },
  );
}
function update(task_id, state, message) {
  const uuid = Buffer.from(randomUUID().replaceAll('-', ''), 'hex').toString('base64');
  const status = {
    task_id,
    state,
    source: 'SOURCE_EXECUTOR',
    uuid,
    executor_id: ids.executor_id,
    timestamp: Date.now() / 1000,
    message,
  };
  updates.set(uuid, status);
  post({ type: 'UPDATE', update: { status } });
}
function handle(event) {
  console.log(JSON.stringify(event));
  if (event.type === 'LAUNCH') {
    const { task } = event.launch;
    tasks.set(task.task_id.value, task);
    try {
      appendFileSync('data/marker', `${task.task_id.value}\n`);
    } catch {}
    update(task.task_id, 'TASK_STARTING');
    update(task.task_id, 'TASK_RUNNING', 'up');
  } else if (event.type === 'ACKNOWLEDGED') {
    updates.delete(event.acknowledged.uuid);
    tasks.delete(event.acknowledged.task_id.value);
  } else if (event.type === 'KILL') {
    update(event.kill.task_id, 'TASK_KILLED');
    setTimeout(() => process.exit(0), 500);
  } else if (event.type === 'SHUTDOWN') {
    if (MODE !== 'stubborn') process.exit(0);
  } else if (event.type === 'MESSAGE') {
    const text = Buffer.from(event.message.data, 'base64').toString();
    const [word, task, ms] = text.split(' ');
    if (word === 'fail') {
      update({ value: task }, 'TASK_FAILED', 'asked to');
      setTimeout(() => process.exit(0), Number(ms));
    } else if (word === 'finish') {
      update({ value: task }, 'TASK_FINISHED');
    } else post({ type: 'MESSAGE', message: { data: Buffer.from(`echo:${text}`).toString('base64') } });
  }
}
