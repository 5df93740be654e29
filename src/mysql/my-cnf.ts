/**
 * my.cnf of a member. Pure: the same input gives the same bytes. Rules that safety rests on:
 * every start is read-only, offline and without replication, whatever the data directory says
 * (docs/failover-safety.md, rule 2), and relay logs with acknowledged transactions are never thrown away (rule 1).
 */
export interface MyCnf {
  readonly serverId: number;
  /** The one IPv4 that mysqld listens on and reports. */
  readonly address: string;
  readonly port: number;
  /** Memory that mysqld may use, in megabytes. */
  readonly memMb: number;
  /** Absolute paths. `socketPath` has at most 107 bytes: a limit of Unix sockets. */
  readonly dataDir: string;
  readonly tmpDir: string;
  readonly socketPath: string;
  readonly pidFile: string;
  readonly errorLog: string;
  /** PEM files. */
  readonly tls: { readonly caFile: string; readonly certFile: string; readonly keyFile: string };
  /** `os`: an acknowledgement survives the end of a replica's process; `disk`: of its host, at half the speed or less. */
  readonly ackFlush: 'os' | 'disk';
}

const maxSocketPathBytes = 107;

/** Practically for ever, in milliseconds: a commit without acknowledgements waits, it does not lie. */
export const semiSyncTimeoutMs = 1_000_000_000_000;

/** Text of my.cnf. Throws when a path or address cannot be written down or used. */
export function renderMyCnf(options: MyCnf): string {
  if (Buffer.byteLength(options.socketPath) > maxSocketPathBytes) {
    throw new Error(`socket path is longer than ${maxSocketPathBytes} bytes: ${options.socketPath}`);
  }
  const groups = [identity(options), safety(options), replication(options), limits(options), memory(options.memMb)];
  const blocks = groups.map(([title, settings]) =>
    [`# ${title}`, ...Object.entries(settings).map(([name, value]) => `${name} = ${checked(name, value)}`)].join('\n'),
  );
  return `# Written by Selvedge at every start; changes are lost.\n[mysqld]\n${blocks.join('\n\n')}\n`;
}

type Group = readonly [title: string, settings: Readonly<Record<string, string | number>>];

/** Option files have no way to quote these: a path with them would become another setting. */
function checked(name: string, value: string | number): string {
  const text = String(value);
  const hasControl = [...text].some((character) => character < ' ' || character === '\x7f');
  if (hasControl || /["#\\]|^\s|\s$/.test(text)) throw new Error(`my.cnf cannot hold this ${name}: ${text}`);
  return text;
}

function identity(options: MyCnf): Group {
  return [
    'who and where',
    {
      server_id: options.serverId,
      bind_address: options.address,
      port: options.port,
      report_host: options.address,
      report_port: options.port,
      mysqlx: 'OFF',
      datadir: options.dataDir,
      tmpdir: options.tmpDir,
      socket: options.socketPath,
      pid_file: options.pidFile,
      log_error: options.errorLog,
      log_error_verbosity: 2,
      log_timestamps: 'UTC',
      default_time_zone: '+00:00',
      ssl_ca: options.tls.caFile,
      ssl_cert: options.tls.certFile,
      ssl_key: options.tls.keyFile,
      clone_ssl_ca: options.tls.caFile,
      clone_ssl_cert: options.tls.certFile,
      clone_ssl_key: options.tls.keyFile,
      require_secure_transport: 'ON',
      auto_generate_certs: 'OFF',
      caching_sha2_password_auto_generate_rsa_keys: 'OFF',
    },
  ];
}

function safety({ ackFlush }: MyCnf): Group {
  return [
    'safe at every start: mysqld-auto.cnf would beat this file, so it is not read',
    {
      persisted_globals_load: 'OFF',
      super_read_only: 'ON',
      read_only: 'ON',
      offline_mode: 'ON',
      skip_replica_start: 'ON',
      event_scheduler: 'OFF',
      sync_binlog: 1,
      innodb_flush_log_at_trx_commit: 1,
      relay_log_recovery: 'OFF',
      sync_relay_log: ackFlush === 'disk' ? 1 : 10_000,
      disabled_storage_engines: 'MyISAM,MEMORY,CSV,ARCHIVE,BLACKHOLE,MRG_MYISAM,FEDERATED',
      sql_require_primary_key: 'ON',
      partial_revokes: 'ON',
      local_infile: 'OFF',
      skip_name_resolve: 'ON',
    },
  ];
}

/**
 * Appliers of a replica. When all of them are busy, the thread that hands out the work spins (`sched_yield` in MySQL's
 * get_least_occupied_worker) and takes what it can get of a processor: with eight writers, all three mysqlds on two
 * cores, 4 appliers commit 480 a second and lag by 0.7 s, 8 commit 740, 16 commit 850 and lag by 0.02 s. Each costs
 * 9 MB: a queue for 16384 events with the name of the relay log in each.
 */
const appliers = (memMb: number): number => (memMb < 2048 ? 8 : 16);
const applierMb = 9;

function replication({ memMb }: MyCnf): Group {
  return [
    'replication',
    {
      plugin_load_add:
        'auth_socket=auth_socket.so;clone=mysql_clone.so;' +
        'rpl_semi_sync_source=semisync_source.so;rpl_semi_sync_replica=semisync_replica.so',
      gtid_mode: 'ON',
      enforce_gtid_consistency: 'ON',
      log_bin: 'binlog',
      binlog_row_metadata: 'FULL',
      relay_log: 'relay',
      log_replica_updates: 'ON',
      // Rows are logged, not statements: a team may make triggers and functions without SUPER.
      loose_log_bin_trust_function_creators: 'ON',
      replica_net_timeout: 4,
      replica_parallel_workers: appliers(memMb),
      replica_preserve_commit_order: 'ON',
      rpl_semi_sync_source_enabled: 'OFF',
      rpl_semi_sync_source_wait_point: 'AFTER_SYNC',
      rpl_semi_sync_source_wait_no_replica: 'ON',
      rpl_semi_sync_source_timeout: semiSyncTimeoutMs,
      rpl_semi_sync_replica_enabled: 'OFF',
      loose_replication_optimize_for_static_plugin_config: 'ON',
      // ON broke the restart of a replica after a crash (moco#325).
      loose_replication_sender_observe_commit_only: 'OFF',
    },
  ];
}

function limits({ memMb }: MyCnf): Group {
  return [
    'limits',
    {
      // The executor purges: what is archived, and executed by all who are expected back (executor/log-keeper.ts).
      binlog_expire_logs_auto_purge: 'OFF',
      max_binlog_size: memMb < 2048 ? '128M' : '512M',
      max_allowed_packet: '64M',
      max_connections: Math.min(2000, Math.max(60, Math.floor(memMb / 8))),
    },
  ];
}

/** What mysqld takes with the smallest pool and no appliers: 231 MB measured after a start, and some for sessions. */
const baseMb = 265;

const chunkMb = 128;

/** Whole chunks in every instance of the pool: anything else MySQL rounds up, past what was reserved. */
function poolMb(memMb: number, instances: number): number {
  const wantedMb = Math.max(32, (memMb - baseMb - appliers(memMb) * applierMb) * 0.75);
  const stepMb = wantedMb < chunkMb ? 32 : chunkMb * instances;
  return Math.floor(wantedMb / stepMb) * stepMb;
}

function memory(memMb: number): Group {
  const isSmall = memMb < 2048;
  const instances = memMb < 16_384 ? 1 : 4;
  const pool = poolMb(memMb, instances);
  return [
    'memory',
    {
      innodb_buffer_pool_size: `${pool}M`,
      innodb_buffer_pool_instances: instances,
      innodb_redo_log_capacity: `${Math.min(4096, Math.max(64, Math.floor(pool / 2)))}M`,
      innodb_log_buffer_size: isSmall ? '4M' : '16M',
      table_open_cache: isSmall ? 400 : 4000,
      table_definition_cache: isSmall ? 400 : 2000,
      open_files_limit: isSmall ? 4096 : 65_535,
      temptable_max_ram: isSmall ? '16M' : '256M',
      tmp_table_size: isSmall ? '8M' : '16M',
      key_buffer_size: '1M',
      ...performanceSchema(isSmall),
    },
  ];
}

/** On everywhere, since clone and replication tell their state through it; small where memory is. */
function performanceSchema(isSmall: boolean): Record<string, string | number> {
  if (!isSmall) return { performance_schema: 'ON' };
  return {
    performance_schema: 'ON',
    performance_schema_accounts_size: 20,
    performance_schema_hosts_size: 20,
    performance_schema_users_size: 20,
    performance_schema_digests_size: 200,
    performance_schema_max_digest_length: 256,
    performance_schema_max_sql_text_length: 256,
    performance_schema_error_size: 0,
    performance_schema_events_stages_history_long_size: 0,
    performance_schema_events_stages_history_size: 0,
    performance_schema_events_statements_history_long_size: 0,
    performance_schema_events_statements_history_size: 2,
    performance_schema_events_transactions_history_long_size: 0,
    performance_schema_events_transactions_history_size: 0,
    performance_schema_events_waits_history_long_size: 0,
    performance_schema_events_waits_history_size: 0,
    performance_schema_max_cond_instances: 0,
    performance_schema_max_file_instances: 200,
    performance_schema_max_index_stat: 100,
    performance_schema_max_metadata_locks: 2000,
    performance_schema_max_mutex_instances: 0,
    performance_schema_max_program_instances: 0,
    performance_schema_max_rwlock_instances: 0,
    performance_schema_max_socket_instances: 0,
    performance_schema_max_statement_stack: 2,
    performance_schema_max_table_handles: 400,
    performance_schema_max_table_instances: 400,
    performance_schema_session_connect_attrs_size: 128,
  };
}

/** auto.cnf: the server_uuid that the store chose for this incarnation. */
export function renderAutoCnf(serverUuid: string): string {
  return `[auto]\nserver-uuid=${checked('server_uuid', serverUuid)}\n`;
}
