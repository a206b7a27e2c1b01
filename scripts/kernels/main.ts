/**
 * Runs test suites on other kernels than this machine's, each in a virtual machine, and ends in
 * one summary line. Arguments: kernels (`6.1`), suites and test files; by default all kernels and
 * the suites that depend on them. With COMMAND in the environment it runs that instead of tests. A
 * kernel that cannot be had is skipped with the reason.
 */
import { join } from 'node:path';
import { boot } from './boot.ts';
import { prepareHost } from './host.ts';
import { KERNELS, prepareImage } from './image.ts';
import { Unavailable } from './packages.ts';

interface Result {
  passed: number;
  failed: number;
  skipped: number;
  /** What the kernel's own line says. */
  text: string;
}

const REPO = join(import.meta.dirname, '../..');
/** What of the daemon depends on the kernel: hooks, interfaces, pins, locks, privileges. */
const DAEMON = [
  'endpoints',
  'hooks',
  'link-types',
  'locks',
  'notify',
  'refusals',
  'reload',
  'state',
];
const SUITES = ['kernel', 'datapath', ...DAEMON.map(daemonTest), 'e2e'];
/** How many times slower an emulated processor is, near enough: time limits are multiplied. */
const SLOWNESS = 10;
const LIMIT_MS = 90 * 60_000;
const TOTALS = /^(\d+) passed, (\d+) failed, (\d+) skipped$/;

async function tryKernel(name: string, tests: readonly string[]): Promise<Result | string> {
  try {
    return await runTests(name, tests);
  } catch (error) {
    if (error instanceof Unavailable) return error.message;
    throw error;
  }
}

async function runTests(name: string, tests: readonly string[]): Promise<Result> {
  prepareHost();
  const image = prepareImage(join(REPO, 'build/kernels'), KERNELS[name] ?? /$^/);
  console.log(`\n==== Linux ${image.version}`);
  const start = performance.now();
  let totals = ['0', '0', '0'];
  const { code, console: said } = await boot(image, {
    repo: REPO,
    command: process.env.COMMAND ?? testCommand(tests),
    limit: LIMIT_MS,
    print(line) {
      totals = TOTALS.exec(line)?.slice(1) ?? totals;
      console.log(line);
    },
  });
  const minutes = ((performance.now() - start) / 60_000).toFixed(1);
  const [passed = 0, failed = 0, skipped = 0] = totals.map(Number);
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped in ${minutes} min`;
  if (code === 0) return { passed, failed, skipped, text: `${image.version}: ${counts}` };
  const ending = code === undefined ? `the guest ended early\n${said}` : `exit ${code}`;
  const text = `${image.version}: ${counts}; ${ending}`;
  return { passed, failed: Math.max(failed, 1), skipped, text };
}

function daemonTest(name: string): string {
  return `test/daemon/${name}.test.ts`;
}

function testCommand(tests: readonly string[]): string {
  return `SEKISHO_TEST_SLOW=${SLOWNESS} ${process.execPath} scripts/test.ts ${tests.join(' ')}`;
}

const asked = process.argv.slice(2);
const kernels = asked.filter((name) => name in KERNELS);
const tests = asked.filter((name) => !(name in KERNELS));
const results: Result[] = [];
const lines: string[] = [];
for (const name of kernels.length > 0 ? kernels : Object.keys(KERNELS)) {
  const result = await tryKernel(name, tests.length > 0 ? tests : SUITES);
  if (typeof result !== 'string') results.push(result);
  lines.push(typeof result === 'string' ? `${name}: skipped: ${result}` : result.text);
}
console.log(`\n${lines.join('\n')}`);
const sum = (key: 'passed' | 'failed' | 'skipped') =>
  results.reduce((total, result) => total + result[key], 0);
console.log(
  `${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped ` +
    `on ${results.length} of ${lines.length} kernels`,
);
process.exitCode = sum('failed') > 0 ? 1 : 0;
