/**
 * Loaded into an executor before its own modules (`--import`): ends it, or an mysqld of it, at an exact point. The file
 * SELVEDGE_TEST_STRIKE holds the order; it goes when it was carried out. Points, as they come up:
 * - `step NAME`: long work comes to its next step, and has told so in the log;
 * - `naming NAME`, `named NAME`: right before and right after a rename to that name;
 * - `spawned NAME`: an mysqld with that socket (`own`: that of the member) runs with its threads.
 */
import childProcess, { type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { basename } from 'node:path';

const orderPath = process.env['SELVEDGE_TEST_STRIKE'] ?? '';
/** Below it mysqld has not come to its data yet. */
const THREADS = 6;
const LOOK_MS = 2;
const mysqlds = new Map<string, ChildProcess>();

/** `POINT` ends the executor, `POINT > SOCKET` that mysqld. */
function takeOrder(point: string): string | null {
  const order = fs.existsSync(orderPath) ? fs.readFileSync(orderPath, 'utf8') : '';
  const [at = '', victim = 'executor'] = order.split(' > ');
  if (at !== point) return null;
  fs.rmSync(orderPath);
  return victim;
}

function reach(point: string): void {
  const victim = takeOrder(point);
  if (victim === 'executor') process.kill(process.pid, 'SIGKILL');
  else if (victim !== null) mysqlds.get(victim)?.kill('SIGKILL');
}

const { writeSync } = fs;
fs.writeSync = ((fd: number, data: string | Buffer, ...rest: never[]) => {
  const written = writeSync(fd, data as string, ...rest);
  const text = fd === 2 ? String(data) : '';
  if (text.includes('long work comes to its next step')) reach(`step ${JSON.parse(text).step}`);
  return written;
}) as typeof writeSync;

const { rename } = fs.promises;
fs.promises.rename = async (from, to) => {
  const name = basename(String(to));
  reach(`naming ${name}`);
  await rename(from, to);
  reach(`named ${name}`);
};

const { spawn } = childProcess;
childProcess.spawn = ((program: string, args: readonly string[], options: object) => {
  const child = spawn(program, args, options);
  if (!args.includes('--pdeathsig')) return child;
  const socket = args.find((each) => each.startsWith('--socket='));
  const name = socket ? basename(socket) : 'own';
  mysqlds.set(name, child);
  const look = setInterval(() => {
    const tasks = `/proc/${child.pid}/task`;
    if (child.exitCode === null && fs.existsSync(tasks) && fs.readdirSync(tasks).length < THREADS) return;
    clearInterval(look);
    reach(`spawned ${name}`);
  }, LOOK_MS);
  return child;
}) as typeof spawn;

syncBuiltinESMExports();
