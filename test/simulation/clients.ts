/** Clients as teams run them: they write to whom they believe to be the primary, and remember what they were told. */

import type { Instance, Outcome, Transaction } from './mysql.ts';
import { clientHost, type Net } from './net.ts';
import type { Random } from './random.ts';
import type { RegisterOperation } from './register.ts';
import type { Time } from './time.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface Clients {
  /** Transactions whose COMMIT was answered with OK, by id. */
  readonly acknowledged: ReadonlyMap<number, Transaction>;
  readonly history: readonly RegisterOperation[];
  counts(): { readonly ok: number; readonly refused: number; readonly unknown: number };
  stop(): void;
}

const timeoutMs = 8000;

export function startClients(options: {
  readonly time: Time;
  readonly net: Net;
  readonly random: Random;
  readonly writers: number;
  findInstance(endpoint: Endpoint): Instance | null;
  /** What the API says now; null while there is none. */
  askEndpoint(): Endpoint | null;
  onAcknowledged(transaction: Transaction, instance: Instance): void;
}): Clients {
  const { time, net, random } = options;
  const acknowledged = new Map<number, Transaction>();
  const history: RegisterOperation[] = [];
  const counts = { ok: 0, refused: 0, unknown: 0 };
  let isStopped = false;
  let values = 0;

  /** Sends one statement and waits for the answer; `unknown`: it may have been carried out, or may yet be. */
  function ask(
    endpoint: Endpoint,
    run: (instance: Instance, answer: (act: () => void) => void, broke: () => void) => void,
    done: (outcome: 'answered' | 'refused' | 'unknown', act: () => void) => void,
  ): void {
    let isDone = false;
    const finish = (outcome: 'answered' | 'refused' | 'unknown', act: () => void) => {
      if (isDone) return;
      isDone = true;
      time.cancel(timer);
      done(outcome, act);
    };
    const timer = time.after(timeoutMs, () => finish('unknown', () => {}), { quiet: true });
    time.after(net.delay(), () => {
      if (net.isCut(clientHost, endpoint.host)) return;
      const instance = options.findInstance(endpoint);
      if (!instance?.isAlive || instance.isOffline) return finish('refused', () => {});
      run(
        instance,
        (act) =>
          time.after(
            net.delay(),
            () => {
              if (!net.isCut(clientHost, endpoint.host)) finish('answered', act);
            },
            { quiet: true },
          ),
        () => finish('unknown', () => {}),
      );
    });
  }

  function startWriter(name: number): void {
    let endpoint: Endpoint | null = null;
    let count = 0;
    const again = (ms: number) => {
      if (!isStopped) time.after(ms, write, { quiet: true });
    };
    const write = () => {
      if (isStopped) return;
      endpoint ??= options.askEndpoint();
      if (!endpoint) return again(random.between(200, 600));
      count += 1;
      const value = `${name}.${count}`;
      ask(
        endpoint,
        (instance, answer, broke) => {
          let transaction: Transaction | null = null;
          const outcome = (told: Outcome) => {
            const at = transaction ?? instance.data.log[instance.data.committed - 1] ?? null;
            if (told === 'ok' && at)
              answer(() => {
                acknowledged.set(at.id, at);
                options.onAcknowledged(at, instance);
              });
            else if (told === 'refused') answer(() => counts.refused++);
            else broke();
          };
          transaction = instance.write({ kind: 'write', epoch: instance.epoch, value, isOurs: false }, outcome);
        },
        (outcome, act) => {
          act();
          if (outcome === 'answered') counts.ok += 1;
          if (outcome === 'unknown') counts.unknown += 1;
          // An error makes a client look for the primary again, sooner or later.
          if (outcome !== 'answered' || random.chance(0.02)) endpoint = random.chance(0.7) ? null : endpoint;
          again(random.between(50, 400));
        },
      );
    };
    again(random.between(1, 300));
  }

  /** Reads or sets the register. Both end in a commit: an answer from a primary of the past would need its quorum. */
  function startRegister(): void {
    let endpoint: Endpoint | null = null;
    let known = '';
    const again = (ms: number) => {
      if (!isStopped) time.after(ms, act, { quiet: true });
    };
    const act = () => {
      if (isStopped) return;
      endpoint ??= options.askEndpoint();
      if (!endpoint) return again(random.between(200, 600));
      const from = time.now();
      values += 1;
      const value = `v${values}`;
      const isSet = random.chance(0.6);
      const expected = known;
      let wasSent = false;
      ask(
        endpoint,
        (instance, answer, broke) => {
          // The row's lock is held until the engine has committed the one before.
          const locked = () => {
            if (!instance.isAlive) return broke();
            if (!instance.isAble) return instance.hold(locked);
            if (instance.data.log.slice(instance.data.committed).some(({ kind }) => kind === 'register'))
              return instance.whenIdle(locked);
            const seen = instance.data.register;
            const sets = isSet && seen === expected;
            const kind = sets ? 'register' : 'write';
            wasSent = sets;
            instance.write({ kind, epoch: instance.epoch, value: sets ? value : 'read', isOurs: false }, (told) => {
              if (told === 'ok')
                answer(() => {
                  const to = time.now();
                  known = sets ? value : seen;
                  history.push(
                    sets ? { kind: 'set', from, to, expected, value } : { kind: 'read', from, to, value: seen },
                  );
                });
              else if (told === 'lost') broke();
              else {
                wasSent = false;
                answer(() => {});
              }
            });
          };
          locked();
        },
        (outcome, tell) => {
          tell();
          if (outcome === 'unknown' && isSet) history.push({ kind: 'maybe', from, expected, value });
          if (outcome === 'answered' && wasSent && !history.some((one) => one.value === value))
            history.push({ kind: 'maybe', from, expected, value });
          if (outcome !== 'answered') endpoint = random.chance(0.7) ? null : endpoint;
          again(random.between(100, 500));
        },
      );
    };
    again(random.between(1, 300));
  }

  for (let name = 1; name <= options.writers; name++) startWriter(name);
  startRegister();
  startRegister();
  return {
    acknowledged,
    history,
    counts: () => counts,
    stop() {
      isStopped = true;
    },
  };
}
