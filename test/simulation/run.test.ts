import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';

vi.setConfig({ testTimeout: 300_000 });

/** The command as `npm run test:simulation` starts it. */
function simulate(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [join(import.meta.dirname, 'run.ts'), ...args],
      { timeout: 240_000 },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : error.code;
        if (typeof status === 'number') resolve({ status, stdout, stderr });
        else reject(error);
      },
    );
  });
}

test('--seeds beside --seed counts from that seed; the last line says what came of them', async () => {
  const { status, stdout } = await simulate('--seed', '5', '--seeds', '2', '--jobs', '2');

  expect(status).toBe(0);
  expect(stdout).toMatch(
    /^2 of 2 seeds: 2 held, 0 failed; .* seeds a second, .* virtual seconds, \d+ acknowledged writes\n$/,
  );
});

test('--seed alone is one seed; --without leaves out its faults', async () => {
  const { status, stdout } = await simulate('--seed', '7', '--without', '1', '--story');

  expect(status).toBe(0);
  expect(stdout).toContain('1 of 1 seeds: 1 held');
  expect(stdout).toContain('PEACE');
  expect(stdout).not.toContain('FAULT 1 ');
});

test('wrong use is told, with the usage', async () => {
  const wrong = [
    ['--seeds', '0'],
    ['--jobs', 'many'],
    ['--seed', '-1'],
    ['--without', '3,x'],
    ['--without', '3'],
    ['--no'],
  ];

  for (const args of wrong) {
    const { status, stderr } = await simulate(...args);
    expect({ args, status }).toEqual({ args, status: 2 });
    expect(stderr).toContain('--help');
  }
});

test('--help says it all', async () => {
  const { status, stdout } = await simulate('--help');

  expect(status).toBe(0);
  expect(stdout).toContain('--jobs');
});
