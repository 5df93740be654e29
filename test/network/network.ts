/**
 * Cuts and losses between members, of open connections and of new ones, by nftables. Only MySQL's own traffic is
 * touched: a member connects to another one's MySQL port from its own address, everybody else from another address.
 * Executors, control plane and clients stay reachable.
 */
import { execFileSync } from 'node:child_process';

export interface Place {
  readonly host: string;
  /** Of MySQL. */
  readonly port: number;
}

export interface Network {
  /** Nothing goes between the two of each pair any more, in either direction. Earlier cuts end. */
  cut(pairs: readonly (readonly [Place, Place])[]): void;
  /**
   * Nobody but members reaches this MySQL any more, nor is answered by it. A CLONE is not bound to its member's address:
   * it is cut, too. Earlier cuts end.
   */
  cutFromStrangers(place: Place): void;
  /** Of a hundred packets between any two of these so many are lost, drawn by the kernel. */
  lose(places: readonly Place[], percent: number): void;
  /** How many packets were dropped since the last cut or loss began. */
  readDropped(): number;
  mend(): void;
}

const timeoutMs = 10_000;
const chain = 'inet selvedge_test traffic';

/** Throws when nft refuses. Nothing is dropped before the first cut. */
export function createNetwork(nft: string): Network {
  const run = (text: string) => execFileSync(nft, ['-f', '-'], { input: text, timeout: timeoutMs, stdio: 'pipe' });
  const set = (verdict: string, pairs: readonly (readonly [Place, Place])[]) => {
    const rules = pairs
      .flatMap(([one, other]) => [...between(one, other), ...between(other, one)])
      .map((match) => `add rule ${chain} ${match} ${verdict}\n`);
    run(`flush chain ${chain}\n${rules.join('')}`);
  };
  run(`add table inet selvedge_test\nadd chain ${chain} { type filter hook input priority 0; }\n`);
  return {
    cut: (pairs) => set('counter drop', pairs),
    cutFromStrangers: (place) =>
      run(
        `flush chain ${chain}\n${strangersOf(place)
          .map((match) => `add rule ${chain} ${match} counter drop\n`)
          .join('')}`,
      ),
    lose: (places, percent) =>
      set(`numgen random mod 1000 < ${Math.round(percent * 10)} counter drop`, pairsOf(places)),
    readDropped() {
      const listed = execFileSync(nft, ['list', 'chain', ...chain.split(' ')], {
        encoding: 'utf8',
        timeout: timeoutMs,
      });
      return [...listed.matchAll(/counter packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);
    },
    mend: () => set('drop', []),
  };
}

/** The connection that `from` made to `to`, both ways. */
const between = (from: Place, to: Place): readonly string[] => [
  `ip saddr ${from.host} ip daddr ${to.host} tcp dport ${to.port}`,
  `ip saddr ${to.host} ip daddr ${from.host} tcp sport ${to.port}`,
];

/** Who binds no address to connect from has this one on loopback. */
const anyone = '127.0.0.1';
const strangersOf = ({ host, port }: Place): readonly string[] => [
  `ip saddr ${anyone} ip daddr ${host} tcp dport ${port}`,
  `ip saddr ${host} ip daddr ${anyone} tcp sport ${port}`,
];

export const pairsOf = (places: readonly Place[]): (readonly [Place, Place])[] =>
  places.flatMap((one, index) => places.slice(index + 1).map((other) => [one, other] as const));
