/**
 * A model of one mysqld and its data: what is in the binary log, what of it the engine has committed, what lies in the
 * relay log, who acknowledged what. Findings were measured on MySQL 9.7.
 * - AFTER_SYNC: a commit is in the binary log, and on its way to replicas, before it is in the engine; it is answered
 *   when k replicas have acknowledged. Crash recovery commits all that the binary log holds (5).
 * - An acknowledgement names a position: it covers all before it. A transaction that a replica has already is not sent
 *   and not acknowledged again; the next one of the same stream covers it.
 * - A stopped process (SIGSTOP) does nothing and its connections stay. On a hung disk commits and relay logs wait, while
 *   logins, reads and heartbeats go on (16); SIGKILL ends it only when the disk answers. On a full one they wait, too.
 * - Relay logs survive a crash (4) of mysqld, not always one of the host. RESET REPLICA ALL, CLONE and a change of source with both threads stopped end them (3).
 */
import type { Disk } from './disk.ts';
import { createGtids, type Gtids } from './gtids.ts';
import { type Connection, createConnection, type Net } from './net.ts';
import type { Random } from './random.ts';
import type { Time } from './time.ts';

export type WriteKind = 'write' | 'register' | 'heartbeat' | 'epoch' | 'empty';

export interface Transaction {
  /** Unique in the world, whatever GTID it was given. */
  readonly id: number;
  /** `uuid` or `uuid:tag` */
  readonly key: string;
  readonly n: number;
  readonly kind: WriteKind;
  readonly at: number;
  readonly epoch: number;
  readonly value: string;
}

/** What a data directory holds; survives mysqld. */
export interface Data {
  readonly serverUuid: string;
  readonly log: Transaction[];
  /** This many of the log are in the engine; the rest is the tail. */
  committed: number;
  /** Transactions in the log or purged from it. */
  readonly held: Set<number>;
  readonly executed: Gtids;
  readonly flushed: Gtids;
  readonly purged: Gtids;
  relay: Transaction[];
  received: Gtids;
  /** Of the relay log: in the cache of the operating system only. */
  readonly unflushed: Set<number>;
  /** sync_relay_log = 1 */
  flushesRelay: boolean;
  channel: { readonly host: string; readonly port: number } | null;
  register: string;
  heartbeatAt: number | null;
  readonly epochs: Map<number, string>;
}

export function createData(serverUuid: string): Data {
  return {
    serverUuid,
    log: [],
    committed: 0,
    held: new Set(),
    executed: createGtids(),
    flushed: createGtids(),
    purged: createGtids(),
    relay: [],
    received: createGtids(),
    unflushed: new Set(),
    flushesRelay: false,
    channel: null,
    register: '',
    heartbeatAt: null,
    epochs: new Map(),
  };
}

/** CLONE and backups: what the engine has, without logs; all of it counts as purged. */
export function cloneData(from: Data, serverUuid: string): Data {
  const tail = new Set(from.log.slice(from.committed).map(({ id }) => id));
  return {
    ...createData(serverUuid),
    held: new Set([...from.held].filter((id) => !tail.has(id))),
    executed: from.executed.copy(),
    flushed: from.executed.copy(),
    purged: from.executed.copy(),
    register: from.register,
    heartbeatAt: from.heartbeatAt,
    epochs: new Map(from.epochs),
  };
}

/** What mysqld had not flushed before it was told to is flushed then. */
export function setRelayFlush(data: Data, isOn: boolean): void {
  data.flushesRelay = isOn;
  if (isOn) data.unflushed.clear();
}

/** The host lost power: from somewhere on, what the receiver wrote and nobody flushed is gone. */
export function loseRelay(data: Data, random: Random): number {
  const first = data.relay.findIndex(({ id }) => data.unflushed.has(id));
  data.unflushed.clear();
  if (first === -1) return 0;
  const kept = random.between(first, data.relay.length);
  const lost = data.relay.splice(kept);
  for (const { key, n } of lost) data.received.remove(key, n);
  return lost.length;
}

/** All that the member has or will have once its applier ran. */
export function holdsAll(data: Data, ids: Iterable<number>): number | null {
  const relayed = new Set(data.relay.map(({ id }) => id));
  for (const id of ids) if (!data.held.has(id) && !relayed.has(id)) return id;
  return null;
}

export interface Servers {
  readonly time: Time;
  readonly net: Net;
  readonly random: Random;
  readonly at: Map<string, Instance>;
  nextTransaction: number;
  /** Every GTID that was ever given: none is given twice (12). */
  readonly issued: Set<string>;
  onIssuedTwice(instance: Instance, gtid: string): void;
  /** A commit came through: somebody may be told OK. */
  onCommitted(instance: Instance, transaction: Transaction): void;
}

export type Outcome = 'ok' | 'refused' | 'lost';
interface Waiting {
  readonly index: number;
  done(outcome: Outcome): void;
}
interface Write {
  readonly kind: WriteKind;
  readonly epoch: number;
  readonly value: string;
  readonly isOurs: boolean;
}
interface Held {
  readonly run: () => void;
  /** A commit that the disk does not take. */
  readonly stuck: Write | null;
}

const connectRetryMs = 1000;
/** replica_net_timeout */
const silenceMs = 4000;

export class Instance {
  readonly servers: Servers;
  readonly host: string;
  readonly port: number;
  readonly data: Data;
  /** For the checks: whose it is; a trim names it anew while it runs. */
  owner: { readonly clusterId: string; readonly ordinal: number; readonly incarnation: string };
  readonly disk: Disk;
  isAlive = true;
  /** The process is gone. After SIGKILL on a hung disk that is later. */
  isReaped = false;
  stoppedAt: number | null = null;
  isReadOnly = true;
  isSuperReadOnly = true;
  isOffline = true;
  isSource = false;
  sourceK = 1;
  isReplica = false;
  applier: 'on' | 'off' = 'off';
  receiver: 'on' | 'off' | 'connecting' = 'off';
  receiverError = '';
  /** Epoch in which the executor made it writable. */
  epoch = 0;
  isLocking = false;
  noTx = 0;
  #waiting: Waiting[] = [];
  #held: Held[] = [];
  #reaped: (() => void)[] = [];
  readonly #forgetDisk: () => void;
  #acknowledged = new Map<string, number>();
  #dumps = new Set<Stream>();
  #stream: Stream | null = null;
  #retry: unknown = null;
  #applying: unknown = null;
  #idle: (() => void)[] = [];
  #heardAt: number | null = null;
  applyMs = 2;
  /** A planted fault: commits are answered without waiting. */
  ignoresAcknowledgements = false;

  constructor(servers: Servers, place: Pick<Instance, 'host' | 'port' | 'data' | 'owner' | 'disk'>) {
    this.servers = servers;
    this.host = place.host;
    this.port = place.port;
    this.data = place.data;
    this.owner = place.owner;
    this.disk = place.disk;
    this.disk.holder = this;
    this.#forgetDisk = this.disk.onWell(() => this.#goOn());
    // Crash recovery: what the binary log holds is committed.
    while (this.data.committed < this.data.log.length) this.#enterEngine();
    servers.at.set(`${this.host}:${this.port}`, this);
  }

  /** Acknowledgements that a commit waits for. */
  get k(): number {
    return this.isSource ? this.sourceK : 0;
  }

  get waitingCommits(): number {
    return this.k === 0 ? 0 : this.data.log.length - this.data.committed;
  }

  get clients(): number {
    return [...this.#dumps].filter((stream) => stream.isSemi).length;
  }

  /** Since the receiver heard a heartbeat (each second) or a transaction of its source. */
  heardMsAgo(): number | null {
    return this.#heardAt === null ? null : this.servers.time.now() - this.#heardAt;
  }

  heard(): void {
    this.#heardAt = this.servers.time.now();
  }

  get isAcknowledging(): boolean {
    return this.#stream?.isSemi ?? false;
  }

  get isStopped(): boolean {
    return this.stoppedAt !== null;
  }

  /** SIGSTOP */
  stop(): void {
    if (this.isAlive) this.stoppedAt ??= this.servers.time.now();
  }

  /** SIGCONT */
  resume(): void {
    if (this.stoppedAt === null) return;
    this.stoppedAt = null;
    if (!this.isAlive) return;
    this.#goOn();
    for (const stream of this.#dumps) stream.pump();
  }

  /** Nothing stands in the way of a statement now, nor of what it writes. */
  get isAble(): boolean {
    return !this.isStopped && !this.isLocking && this.disk.condition === 'well';
  }

  /** Runs when something changes of what `isAble` looks at, or when the process ends. */
  hold(run: () => void, stuck: Write | null = null): void {
    this.#held.push({ run, stuck });
  }

  #goOn(): void {
    for (const { run } of this.#held.splice(0)) run();
    if (this.isAlive) this.#applyNext();
    this.#tellIdle();
  }

  /** Runs once the process is gone. */
  whenReaped(run: () => void): void {
    if (this.isReaped) run();
    else this.#reaped.push(run);
  }

  /** SIGKILL, or the end of the machine. On a hung disk the process stays until it answers; it does nothing more. */
  die(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.#forgetDisk();
    const { time, random } = this.servers;
    time.cancel(this.#retry);
    time.cancel(this.#applying);
    if (this.disk.condition !== 'hung') {
      this.#end();
      return;
    }
    // What was on its way to the disk arrives there, or does not.
    for (const { stuck } of this.#held) {
      if (!stuck) continue;
      if (random.chance(0.5)) break;
      this.#log(stuck);
    }
    const forget = this.disk.onWell(() => {
      forget();
      this.#end();
    });
  }

  #end(): void {
    this.isReaped = true;
    const key = `${this.host}:${this.port}`;
    if (this.servers.at.get(key) === this) this.servers.at.delete(key);
    if (this.disk.holder === this) this.disk.holder = null;
    this.#stream?.close();
    for (const stream of [...this.#dumps]) stream.sourceEnded();
    for (const { done } of this.#waiting.splice(0)) done('lost');
    for (const { run } of this.#held.splice(0)) run();
    for (const run of this.#idle.splice(0)) run();
    for (const run of this.#reaped.splice(0)) run();
  }

  /** `isOurs`: an account with CONNECTION_ADMIN, which read_only does not stop. */
  write(what: Write, done: (outcome: Outcome) => void): Transaction | null {
    if (!this.isAlive) {
      done('lost');
      return null;
    }
    const isRefused = this.isSuperReadOnly || (this.isReadOnly && !what.isOurs) || (this.isOffline && !what.isOurs);
    if (!this.isAble && (this.isStopped || this.isLocking || !isRefused)) {
      const isStuck = !this.isStopped && !this.isLocking;
      this.hold(() => void this.write(what, done), isStuck ? what : null);
      return null;
    }
    if (isRefused) {
      done('refused');
      return null;
    }
    const transaction = this.#log(what);
    this.#waiting.push({ index: this.data.log.length - 1, done });
    this.settle();
    for (const stream of this.#dumps) stream.pump();
    return transaction;
  }

  /** Logs empty transactions with these GTIDs of others, while semi-sync is off. */
  passOver(gtids: Iterable<string>): void {
    const { servers } = this;
    for (const gtid of gtids) {
      const at = gtid.lastIndexOf(':');
      const [key, n] = [gtid.slice(0, at), Number(gtid.slice(at + 1))];
      servers.nextTransaction += 1;
      this.#flush({ id: servers.nextTransaction, key, n, kind: 'empty', at: servers.time.now(), epoch: 0, value: '' });
    }
    this.settle();
  }

  /** Into the binary log, under the next GTID. */
  #log(what: Write): Transaction {
    const { data, servers } = this;
    const key = what.isOurs ? `${data.serverUuid}:selvedge` : data.serverUuid;
    const n = data.flushed.highest(key) + 1;
    const gtid = `${key}:${n}`;
    if (servers.issued.has(gtid)) servers.onIssuedTwice(this, gtid);
    servers.issued.add(gtid);
    servers.nextTransaction += 1;
    const { kind, epoch, value } = what;
    const transaction = { id: servers.nextTransaction, key, n, kind, at: servers.time.now(), epoch, value };
    this.#flush(transaction);
    return transaction;
  }

  #flush(transaction: Transaction): void {
    const { data } = this;
    data.log.push(transaction);
    data.held.add(transaction.id);
    data.flushed.add(transaction.key, transaction.n);
  }

  #enterEngine(): Transaction {
    const { data } = this;
    const transaction = data.log[data.committed]!;
    data.committed += 1;
    data.executed.add(transaction.key, transaction.n);
    if (transaction.kind === 'register') data.register = transaction.value;
    if (transaction.kind === 'heartbeat') data.heartbeatAt = transaction.at;
    if (transaction.kind === 'epoch') data.epochs.set(transaction.epoch, transaction.value);
    return transaction;
  }

  /** Commits what has its acknowledgements, in order. */
  settle(): void {
    const { data } = this;
    while (data.committed < data.log.length) {
      const index = data.committed;
      let count = 0;
      for (const position of this.#acknowledged.values()) if (position > index) count += 1;
      if (count < this.k && !this.ignoresAcknowledgements) return;
      const transaction = this.#enterEngine();
      const own = this.#waiting[0]?.index === index ? this.#waiting.shift() : undefined;
      if (own) {
        this.servers.onCommitted(this, transaction);
        own.done('ok');
      }
    }
    this.#tellIdle();
  }

  get #isIdle(): boolean {
    return this.data.committed === this.data.log.length && !this.#held.some(({ stuck }) => stuck);
  }

  #tellIdle(): void {
    if (!this.isAlive || this.#isIdle) for (const run of this.#idle.splice(0)) run();
  }

  setSource(k: number): void {
    if (k > 0) this.sourceK = k;
    this.isSource = k > 0;
    this.settle();
  }

  /** Runs when no commit waits, or when mysqld is gone. */
  whenIdle(run: () => void): void {
    if (!this.isAlive || this.#isIdle) run();
    else this.#idle.push(run);
  }

  lock(): void {
    this.isLocking = true;
  }

  unlock(): void {
    this.isLocking = false;
    this.#goOn();
  }

  setOffline(isOffline: boolean): void {
    this.isOffline = isOffline;
    if (!isOffline) return;
    // Clients go without an OK, replicas too.
    for (const waiting of this.#waiting) {
      const { done } = waiting;
      const transaction = this.data.log[waiting.index]!;
      if (transaction.key === this.data.serverUuid) {
        waiting.done = () => {};
        done('lost');
      }
    }
    for (const stream of [...this.#dumps]) stream.sourceEnded();
  }

  acknowledge(from: string, position: number): void {
    if (!this.isAlive) return;
    if (this.isStopped) {
      this.hold(() => this.acknowledge(from, position));
      return;
    }
    this.#acknowledged.set(from, Math.max(position, this.#acknowledged.get(from) ?? 0));
    this.settle();
  }

  // The replica's side.

  startApplier(): void {
    if (!this.data.channel) return;
    this.applier = 'on';
    this.#applyNext();
  }

  #applyNext(): void {
    if (this.#applying || this.applier === 'off' || !this.isAlive || this.data.relay.length === 0) return;
    if (!this.isAble) return;
    const { time, random } = this.servers;
    this.#applying = time.after(
      random.between(1, this.applyMs),
      () => {
        this.#applying = null;
        if (!this.isAble) return;
        const transaction = this.data.relay.shift();
        if (!transaction) return;
        this.data.unflushed.delete(transaction.id);
        if (!this.data.flushed.has(transaction.key, transaction.n)) {
          this.#flush(transaction);
          this.settle();
        }
        for (const stream of this.#dumps) stream.pump();
        this.#applyNext();
      },
      { quiet: true },
    );
  }

  startReceiver(): void {
    if (!this.data.channel || this.receiver !== 'off') return;
    this.receiver = 'connecting';
    this.receiverError = '';
    this.#connect();
  }

  stopReceiver(): void {
    this.servers.time.cancel(this.#retry);
    this.receiver = 'off';
    this.#stream?.close();
    this.#stream = null;
  }

  #connect(): void {
    const { time, net } = this.servers;
    this.#retry = time.after(
      2 * net.delay(),
      () => {
        if (!this.isAlive || this.receiver === 'off' || !this.data.channel) return;
        const { host, port } = this.data.channel;
        const source = this.servers.at.get(`${host}:${port}`);
        // A stopped process takes the connection and says nothing.
        const isMute = !source?.isAlive || source.isStopped || this.isStopped;
        if (isMute || source.isOffline || net.isCut(this.host, host)) return this.#reconnect();
        const known = this.known();
        if (!source.data.purged.isSubsetOf(known)) return this.#fail('the source has purged what is needed (1236)');
        for (const key of [source.data.serverUuid, `${source.data.serverUuid}:selvedge`])
          if (known.highest(key) > source.data.flushed.highest(key)) return this.#fail('more than the source (1236)');
        this.receiver = 'on';
        this.#stream = new Stream(source, this);
        source.addDump(this.#stream);
      },
      { quiet: true },
    );
  }

  #reconnect(): void {
    this.receiver = 'connecting';
    this.#retry = this.servers.time.after(connectRetryMs, () => this.#connect(), { quiet: true });
  }

  #fail(error: string): void {
    this.receiver = 'off';
    this.receiverError = error;
  }

  streamBroke(stream: Stream): void {
    if (this.#stream !== stream) return;
    this.#stream = null;
    if (this.isAlive && this.receiver !== 'off') this.#reconnect();
  }

  /** executed ∪ received */
  known(): Gtids {
    const known = this.data.flushed.copy();
    for (const { key, n } of this.data.relay) known.add(key, n);
    return known;
  }

  /** What comes over a stream; it waits in the socket while the process stands still or cannot write. */
  take(run: () => void): void {
    if (!this.isAlive) return;
    if (this.isAble) run();
    else this.hold(() => this.take(run));
  }

  receive(transaction: Transaction): void {
    this.heard();
    this.data.relay.push(transaction);
    if (!this.data.flushesRelay) this.data.unflushed.add(transaction.id);
    this.data.received.add(transaction.key, transaction.n);
    this.#applyNext();
  }

  addDump(stream: Stream): void {
    // A replica that comes back takes the place of its older connection.
    for (const old of [...this.#dumps]) if (old.replica === stream.replica) old.sourceEnded();
    this.#dumps.add(stream);
    stream.pump();
  }

  removeDump(stream: Stream): void {
    this.#dumps.delete(stream);
  }

  changeSource(host: string, port: number): void {
    if (this.applier === 'off' && this.receiver === 'off' && this.data.channel) {
      this.data.relay = [];
      this.data.received = createGtids();
    }
    this.data.channel = { host, port };
  }

  resetReplication(): void {
    this.stopReceiver();
    this.applier = 'off';
    this.servers.time.cancel(this.#applying);
    this.#applying = null;
    this.data.relay = [];
    this.data.received = createGtids();
    this.data.channel = null;
  }
}

/** One dump thread and the receiver at its other end. */
class Stream {
  readonly source: Instance;
  readonly replica: Instance;
  /** Settled when the receiver starts. */
  readonly isSemi: boolean;
  readonly #connection: Connection;
  #cursor = 0;
  #silence: unknown = null;

  constructor(source: Instance, replica: Instance) {
    this.source = source;
    this.replica = replica;
    this.isSemi = replica.isReplica;
    const { time, net } = source.servers;
    this.#connection = createConnection({ time, net, left: source.host, right: replica.host });
    this.#watch();
  }

  /** Heartbeats of the source come each second; without any the receiver gives up. */
  #watch(): void {
    const { time, net } = this.source.servers;
    const isCut = () => net.isCut(this.source.host, this.replica.host) || this.source.isStopped || !this.source.isAlive;
    let silentSince: number | null = null;
    const look = () => {
      if (!this.#connection.isOpen()) return;
      if (this.replica.isStopped) {
        this.#silence = time.after(1000, look, { quiet: true });
        return;
      }
      if (!isCut()) {
        silentSince = null;
        this.replica.heard();
      }
      if (isCut()) silentSince ??= time.now();
      if (silentSince !== null && time.now() - silentSince >= silenceMs) {
        this.close();
        this.replica.streamBroke(this);
        return;
      }
      this.#silence = time.after(1000, look, { quiet: true });
    };
    this.#silence = time.after(1000, look, { quiet: true });
  }

  /** Sent is sent: it arrives although the receiver has stopped, and late when the way was cut. */
  #acknowledge(position: number, delayMs: number, tries = 20): void {
    const { time, net } = this.source.servers;
    time.after(delayMs, () => {
      if (!net.isCut(this.source.host, this.replica.host))
        this.source.acknowledge(this.replica.data.serverUuid, position);
      else if (tries > 0) this.#acknowledge(position, 500, tries - 1);
    });
  }

  pump(): void {
    if (this.source.isStopped) return;
    const { net } = this.source.servers;
    const { log } = this.source.data;
    for (; this.#cursor < log.length; this.#cursor++) {
      const transaction = log[this.#cursor]!;
      const position = this.#cursor + 1;
      const { key, n } = transaction;
      if (this.replica.data.flushed.has(key, n) || this.replica.data.received.has(key, n)) continue;
      this.#connection.send(
        'left',
        () =>
          this.replica.take(() => {
            if (!this.#connection.isOpen()) return;
            this.replica.receive(transaction);
            if (this.isSemi) this.#acknowledge(position, net.delay());
          }),
        true,
      );
    }
  }

  /** The receiver was stopped or is gone. */
  close(): void {
    this.source.servers.time.cancel(this.#silence);
    this.#connection.close();
    this.source.removeDump(this);
  }

  /** mysqld of the source is gone, or dropped us. What was sent before still arrives, then the end. */
  sourceEnded(): void {
    this.source.removeDump(this);
    this.#connection.send(
      'left',
      () => {
        this.close();
        this.replica.streamBroke(this);
      },
      true,
    );
  }
}
