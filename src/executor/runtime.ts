/**
 * How node is to be run as an executor: half the memory of a plain run. Whoever writes the executor's command puts these
 * into its environment.
 * - The young generation stays at 1 MB and the old one is bounded (20 MB are in use); no helper threads for V8.
 * - One malloc arena and four I/O threads: a backup disk that hangs may hold the archiver, its checks and a measurement,
 *   and what a fence stores on the data disk must still get through.
 * - Long streams have their passed buffers collected (passing-buffers.ts).
 * - What is freed goes back to the system: by itself malloc raises both limits to megabytes once a buffer was freed.
 * - The compile cache holds the sources without types: the TypeScript parser (25 MB) is loaded only the first time.
 */
export function executorRuntime(cacheDir: string): Readonly<Record<string, string>> {
  return {
    NODE_OPTIONS: '--max-semi-space-size=1 --max-old-space-size=48 --v8-pool-size=0 --expose-gc',
    NODE_COMPILE_CACHE: `${cacheDir}/compiled`,
    MALLOC_ARENA_MAX: '1',
    MALLOC_MMAP_THRESHOLD_: '131072',
    MALLOC_TRIM_THRESHOLD_: '131072',
    UV_THREADPOOL_SIZE: '4',
  };
}
