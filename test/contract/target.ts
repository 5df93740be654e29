/** What a replay runs against: the local Mesos with a fast clock, or a real master. */
export interface Target {
  /** Where the master answers now. */
  master(): URL;
  /** Recorded seconds per real second: 10 when the target's clock runs ten times faster. */
  readonly speed: number;
  /** How much longer than recorded a thing may take, in milliseconds. */
  readonly patienceMs: number;
  /** How many recorded seconds later than recorded an offer may come. */
  readonly slackSeconds: number;
  /** Shell command that starts the test's executor on an agent. */
  readonly executorCommand: string;
  /** Password of the principal dbsvc. */
  readonly secret: string;
  /** Undefined where we cannot kill agents and masters. */
  readonly faults?: Faults;
  close(): Promise<void>;
}

/** Agents are named by their Mesos id. */
export interface Faults {
  killAgent(agentId: string): Promise<void>;
  startAgent(agentId: string): Promise<void>;
  killMaster(): Promise<void>;
  startMaster(): Promise<void>;
}
