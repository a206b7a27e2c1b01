import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { PassFailure, Sweep } from '../../agent/engine/sweep.ts';

const SEKISHO = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));
const PASS = {
  ...({ family: 'ipv4', table: 'ct_tcp', capacity: 1000, alive: 250, classes: {} } as const),
  ...{ deleted: 7, skipped: 0, failed: 0, natDeleted: 0, completed: 0, evicted: 0, durationMs: 3 },
};
const FAILURES: PassFailure[] = [
  { family: 'ipv4', table: 'snat', code: 'E_KERNEL', message: 'cannot read snat: ENOMEM' },
  { family: 'ipv6', table: 'ct_tcp', code: 'E_INTERNAL', message: 'boom' },
];

/** `gc run` against a daemon whose pass answers so. */
async function gcRun(t: TestContext, answer: Sweep, ...args: string[]) {
  const directory = mkdtempSync(join(tmpdir(), 'sekisho-gc-'));
  const daemon = createServer((_request, response) => response.end(JSON.stringify(answer)));
  t.after(() => {
    daemon.close();
    rmSync(directory, { recursive: true });
  });
  await new Promise<void>((resolve) => daemon.listen(join(directory, 'agent.sock'), resolve));
  const config = join(directory, 'config.yaml');
  writeFileSync(config, `state: { bpffs: ${directory}/bpffs, runDir: ${directory} }\n`);
  return new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    execFile(SEKISHO, ['gc', 'run', '--config', config, ...args], (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

test('gc run shows the figures of its pass', async (t) => {
  const { status, stdout, stderr } = await gcRun(t, { passes: [PASS], failures: [] });
  assert.deepEqual([status, stderr], [0, '']);
  assert.match(stdout, /^TABLE .*\nipv4\/ct_tcp +250 +25\.0% +7 /);
});

test('gc run shows the figures, fails, and says in one line which tables failed and why', async (t) => {
  const { status, stdout, stderr } = await gcRun(t, { passes: [PASS], failures: FAILURES });
  assert.equal(status, 1);
  assert.match(stdout, /ipv4\/ct_tcp +250/);
  const [nat, tcp] = ['ipv4/snat: cannot read snat: ENOMEM', 'ipv6/ct_tcp: boom'];
  assert.equal(stderr, `sekisho: collection failed in ${nat}; ${tcp}\n`);
});

test('gc run answers programs with figures and failures alike', async (t) => {
  const answer = { passes: [PASS], failures: FAILURES };
  const { status, stdout } = await gcRun(t, answer, '-o', 'json');
  assert.equal(status, 1);
  assert.deepEqual(JSON.parse(stdout), answer);
});
