/**
 * A master that plays a golden file back: it answers each call as recorded and sends the recorded events. It is how the
 * driver itself is tested: played against its own recording it must find nothing, and every planted change.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { CallItem, EventItem, ExecutorItem, Golden, QuietItem } from './golden.ts';
import { launchedTasks } from './ids.ts';
import { asList, asText, dig, fromText, type Json, type JsonObject } from './resources.ts';
import type { Target } from './target.ts';

const speed = 100;
const roots = { path0: '/disks/path0', mount0: '/disks/mount0' };

export class RecordedMaster {
  private at = 0;
  private readonly streams = new Map<string, ServerResponse>();
  private readonly executors = new Map<string, Socket>();
  private readonly uuids = new Map<string, string>();
  private count = 0;
  private quiet: NodeJS.Timeout | undefined;
  private readonly golden: Golden;
  private readonly server: Server;

  private constructor(golden: Golden) {
    this.golden = golden;
    this.server = createServer((request, response) => void this.answer(request, response));
  }

  static async start(golden: Golden): Promise<Target> {
    const master = new RecordedMaster(golden);
    await new Promise<void>((resolve) => master.server.listen(0, '127.0.0.1', resolve));
    const address = master.server.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    const advance = async () => {
      master.endQuiet();
      master.advance();
    };
    return {
      master: () => new URL(`http://127.0.0.1:${port}`),
      speed,
      patienceMs: 1000,
      slackSeconds: Number.POSITIVE_INFINITY,
      executorCommand: 'true',
      secret: 'x',
      faults: { killAgent: advance, startAgent: advance, killMaster: advance, startMaster: advance },
      close: async () => {
        for (const socket of master.executors.values()) socket.destroy();
        master.server.closeAllConnections();
        await new Promise<void>((resolve) => master.server.close(() => resolve()));
      },
    };
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request) text += chunk;
    const type = /"type":"(\w+)"/.exec(text)?.[1] ?? '';
    if (!type.startsWith('ACKNOWLEDGE')) this.endQuiet();
    const item = this.golden.timeline[this.at];
    const isCall = item !== undefined && 'call' in item;
    if (type.startsWith('ACKNOWLEDGE') && !(isCall && dig((item as CallItem).body, 'type') === type)) {
      response.writeHead(202).end();
      return;
    }
    if (!isCall) {
      response.writeHead(500).end(`not recorded here: ${text.slice(0, 200)}`);
      return;
    }
    this.reply(item as CallItem, response);
    this.launch(text);
    this.advance();
  }

  private reply(item: CallItem, response: ServerResponse): void {
    const headers = { 'content-type': 'application/json', ...item.answerHeaders };
    const streamId = item.opens || item.record ? { 'mesos-stream-id': `stream ${item.opens}` } : {};
    response.writeHead(item.status, { ...headers, ...streamId });
    if (item.opens) {
      this.streams.set(item.opens, response);
      response.flushHeaders();
      response.on('close', () => this.onClose(item.opens!));
    } else response.end(item.record ? recordIo(item.record) : (item.gist ?? []).join(' '));
  }

  private onClose(name: string): void {
    this.endQuiet();
    const item = this.golden.timeline[this.at];
    if (item && 'drop' in item && item.drop === name) this.advance();
  }

  private launch(text: string): void {
    const control = /"SELVEDGE_CONTROL","value":"(\d+)"/.exec(text)?.[1];
    if (!control) return;
    for (const { executor, task, executorPaths, taskPaths } of launchedTasks(JSON.parse(text) as Json)) {
      if (this.executors.has(executor)) continue;
      const links = Object.fromEntries([...executorPaths, ...taskPaths].map((path) => [path, '/somewhere']));
      const socket = connect(Number(control), '127.0.0.1');
      socket.on('error', () => socket.destroy());
      this.executors.set(executor, socket);
      const tell = (message: JsonObject) => socket.write(`${JSON.stringify({ links, ...message })}\n`);
      const found = this.golden.timeline.find(
        (item): item is ExecutorItem => 'finds' in item && item.executor === executor,
      );
      tell({ hello: executor, pid: 0, env: environment, contents: found?.finds ?? {} });
      tell({ subscribed: 200, streamId: null });
      tell({ saw: { type: 'SUBSCRIBED' } });
      tell({ saw: { type: 'LAUNCH', launch: { task: { task_id: { value: task } } } } });
      createInterface({ input: socket }).on('line', (line) => {
        const order = JSON.parse(line) as JsonObject;
        const next = this.golden.timeline[this.at + 1];
        if (order['exit'] === undefined || (next && 'exit' in next)) this.endQuiet();
        const item = this.golden.timeline[this.at];
        if (order['exit'] === undefined) tell({ answered: 202, body: '' });
        if (item && 'executor' in item && !('event' in item)) this.advance();
      });
    }
  }

  /** The driver has moved on: so its quiet time is over. */
  private endQuiet(): void {
    const item = this.golden.timeline[this.at];
    if (!item || !('quiet' in item)) return;
    clearTimeout(this.quiet);
    this.advance();
  }

  /** Goes past the current item and sends all events up to the next thing that somebody else does. */
  private advance(): void {
    this.at++;
    for (;;) {
      const item = this.golden.timeline[this.at];
      if (!item || 'call' in item || 'fault' in item || 'drop' in item) return;
      if ('finds' in item) this.count++;
      else if ('event' in item) this.send(item as EventItem);
      else {
        if ('executor' in item) this.prompt(item as ExecutorItem);
        else this.quiet = setTimeout(() => this.advance(), ((item as QuietItem).quiet * 1000) / speed + 200);
        return;
      }
      this.at++;
    }
  }

  private prompt(item: ExecutorItem): void {
    const task = { value: asText(item.update?.['task']) };
    const saw = { type: item.after ?? '', kill: { task_id: task }, launch: { task: { task_id: task } } };
    if (item.after) this.executors.get(item.executor)?.write(`${JSON.stringify({ saw, links: {} })}\n`);
  }

  private send(item: EventItem): void {
    const stream = this.streams.get(item.on);
    if (item.event === 'CLOSED') stream?.end();
    else stream?.write(recordIo(this.eventOf(item)));
    if (item.event === 'SUBSCRIBED') stream?.write(recordIo({ type: 'HEARTBEAT' }));
  }

  private uuidOf(item: EventItem): string {
    const key = asText(item['task'] ?? item['id']);
    const uuid = item['again'] ? (this.uuids.get(key) ?? '') : `uuid ${this.count++}`;
    this.uuids.set(key, uuid);
    return uuid;
  }

  private eventOf(item: EventItem): JsonObject {
    const message = asList(item['gist']).map(asText).join(' ') || asText(item['message']);
    const has = (field: string) => asList(item['has']).includes(field);
    const optional = ['unreachable_time', 'healthy', 'data', 'labels', 'executor_id', 'agent_id'].filter(has);
    const fields = Object.fromEntries(optional.map((field) => [field, true]));
    const reason = item['reason'] === undefined ? {} : { reason: item['reason'] };
    const common = { state: item['state']!, message, ...fields };
    switch (item.event) {
      case 'SUBSCRIBED':
        return { type: 'SUBSCRIBED', subscribed: this.subscribed(item) };
      case 'OFFER':
        return { type: 'OFFERS', offers: { offers: [offerOf(item)] } };
      case 'RESCIND':
        return { type: 'RESCIND', rescind: { offer_id: { value: item['id']! } } };
      case 'UPDATE': {
        const uuid = has('uuid') ? { uuid: this.uuidOf(item) } : {};
        const status = { task_id: { value: item['task']! }, source: item['source']!, ...reason, ...common, ...uuid };
        return { type: 'UPDATE', update: { status } };
      }
      case 'OPERATION': {
        const uuid = has('uuid') ? { uuid: { value: this.uuidOf(item) } } : {};
        const status = { operation_id: { value: item['id']! }, ...common, ...uuid };
        return { type: 'UPDATE_OPERATION_STATUS', update_operation_status: { status } };
      }
      case 'FAILURE': {
        const who =
          item['executor'] === undefined ? {} : { executor_id: { value: item['executor'] }, status: item['status']! };
        return { type: 'FAILURE', failure: { agent_id: { value: asText(item['agent']) }, ...who } };
      }
      case 'MESSAGE': {
        const data = Buffer.from(asText(item['data'])).toString('base64');
        return { type: 'MESSAGE', message: { executor_id: { value: item['executor']! }, data } };
      }
      default:
        return { type: 'ERROR', error: { message } };
    }
  }

  private subscribed(item: EventItem): JsonObject {
    const master = Object.fromEntries(asList(item['master']).map((key) => [asText(key), true]));
    const id = asText(item['framework']).slice(1);
    return { framework_id: { value: id }, heartbeat_interval_seconds: item['heartbeat']!, master_info: master };
  }
}

const environment =
  'LIBPROCESS_IP MESOS_AGENT_ENDPOINT MESOS_CHECKPOINT MESOS_DIRECTORY MESOS_EXECUTOR_ID MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD MESOS_FRAMEWORK_ID MESOS_RECOVERY_TIMEOUT MESOS_SANDBOX MESOS_SLAVE_ID MESOS_SUBSCRIPTION_BACKOFF_MAX PATH'.split(
    ' ',
  );

function recordIo(record: JsonObject): string {
  const text = JSON.stringify(record);
  return `${Buffer.byteLength(text)}\n${text}`;
}

function offerOf(item: EventItem): JsonObject {
  const keys = asList(item['keys']).map((key) => [asText(key), true]);
  const executors = asList(item['executors']).map((value) => ({ value }));
  return {
    ...Object.fromEntries(keys),
    id: { value: item['id']! },
    agent_id: { value: item['agent']! },
    resources: asList(item['resources']).map((text) => fromText(asText(text), roots)),
    ...(executors.length > 0 ? { executor_ids: executors } : {}),
  };
}
