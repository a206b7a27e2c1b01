import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const SEKISHO = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'sekisho-cli-'));
after(() => rmSync(directory, { recursive: true }));

interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

function run(...args: string[]): Promise<Outcome> {
  return runFile(SEKISHO, args);
}

function runFile(file: string, args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(file, args, (error, stdout, stderr) => {
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

function configFile(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

/** A configuration whose places exist nowhere. */
const nowhere = configFile(
  'nowhere.yaml',
  `state: { bpffs: ${directory}/bpffs, runDir: ${directory}/run }\n`,
);

describe('the command', () => {
  it('runs through a symbolic link from anywhere', async () => {
    const link = join(directory, 'sekisho');
    symlinkSync(SEKISHO, link);
    const { status, stdout } = await runFile(link, ['--version']);
    assert.equal(status, 0);
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it('prints its help and exits 0 when asked for it', async () => {
    for (const args of [['--help'], ['config', '--help'], ['help', 'config']]) {
      const { status, stdout, stderr } = await run(...args);
      assert.equal(status, 0, args.join(' '));
      assert.match(stdout, /^Usage: sekisho/);
      assert.equal(stderr, '');
    }
  });
});

describe('wrong usage', () => {
  const cases: string[][] = [
    [],
    ['bogus'],
    ['ct'],
    ['ct', 'list', '--bogus'],
    ['ct', 'list', '--kind', 'sideways'],
    ['ct', 'list', '-o', 'xml'],
    ['nat', 'ports', '--top', '0'],
    ['endpoint', 'add', 'web-1'],
    ['endpoint', 'delete'],
    ['gc', 'run', 'extra'],
  ];
  for (const args of cases) {
    it(`exits 2: sekisho ${args.join(' ')}`, async () => {
      const { status, stdout, stderr } = await run('--config', nowhere, ...args);
      assert.equal(status, 2);
      assert.equal(stdout, '');
      assert.notEqual(stderr, '');
    });
  }
});

describe('a usage error', () => {
  const hints: [string[], string][] = [
    [['stats'], "unknown command 'stats' (did you mean status?)"],
    [['lst'], "unknown command 'lst' (see: sekisho --help)"],
    [['ct', 'lis'], "unknown command 'lis' (did you mean list?)"],
    [['ct', 'list', '--bogus'], "unknown option '--bogus' (see: sekisho ct list --help)"],
    [
      ['nat', 'list', '--kind', 'x'],
      '--kind takes out, in or svc, not "x" (see: sekisho nat list --help)',
    ],
  ];
  for (const [args, line] of hints) {
    it(`is one line with a hint: sekisho ${args.join(' ')}`, async () => {
      const { stderr } = await run('--config', nowhere, ...args);
      assert.equal(stderr, `sekisho: ${line}\n`);
    });
  }
});

describe('an error', () => {
  it('is one line with a hint on stderr and exits 1', async () => {
    for (const args of [
      ['ct', 'list'],
      ['ct', 'flush'],
      ['nat', 'list', '-o', 'json'],
      ['nat', 'retries'],
      ['map', 'list'],
    ]) {
      const { status, stdout, stderr } = await run(...args, '--config', nowhere);
      assert.equal(status, 1, args.join(' '));
      assert.equal(stdout, '');
      assert.match(stderr, /^sekisho: no maps are pinned under .* \(.*\)\n$/);
    }
  });

  it('says that no daemon runs', async () => {
    const { status, stderr } = await run('gc', 'run', '--config', nowhere);
    assert.equal(status, 1);
    assert.match(stderr, /^sekisho: no agent listens on .*agent\.sock \(start it .*\)\n$/);
  });

  it('says more with --verbose', async () => {
    const { stderr } = await run('--verbose', 'gc', 'run', '--config', nowhere);
    assert.match(stderr, /code: E_NOT_RUNNING/);
    assert.match(stderr, /caused by: .*ENOENT/);
  });
});

describe('config check', () => {
  it('needs a file to be named', async () => {
    const { status, stderr } = await run('config', 'check');
    assert.equal(status, 2);
    assert.match(stderr, /^sekisho: config check takes a file \(/);
  });

  it('prints the size of each table and the memory it costs', async () => {
    const file = configFile('good.yaml', 'maps: { ctTcp: 131072, ctAny: 65536, nat: 131072 }\n');
    const { status, stdout } = await run('config', 'check', file);
    assert.equal(status, 0);
    assert.match(stdout, /^.*good\.yaml: valid\n/);
    assert.match(stdout, /^ctTcp +131072 +18 MiB /m);
    assert.match(stdout, /^total /m);
  });

  it('prints one line for each problem and exits 1', async () => {
    const file = configFile('bad.yaml', 'log: { level: loud }\nbogus: 1\n');
    const { status, stdout, stderr } = await run('config', 'check', file);
    assert.equal(status, 1);
    assert.equal(stdout, '');
    const lines = stderr.trimEnd().split('\n');
    assert.equal(lines.length, 2);
    assert.ok(lines[0]?.startsWith(`${file}:1:15: log.level: `));
    assert.ok(lines[1]?.startsWith(`${file}:2:1: bogus: unknown key`));
  });

  it('can answer in JSON', async () => {
    const file = configFile('json.yaml', 'gc: { min: 0s }\n');
    const { status, stdout } = await run('config', 'check', file, '-o', 'json');
    assert.equal(status, 1);
    const { valid, problems } = JSON.parse(stdout);
    assert.equal(valid, false);
    assert.deepEqual([problems[0].line, problems[0].column, problems[0].path], [1, 12, 'gc.min']);
  });

  it('fails for a file that is not there', async () => {
    const { status, stderr } = await run('config', 'check', join(directory, 'absent.yaml'));
    assert.equal(status, 1);
    assert.match(stderr, /^sekisho: .*absent\.yaml: cannot read it: no such file \(/);
  });
});

describe('config schema', () => {
  it('prints a JSON Schema', async () => {
    const { status, stdout } = await run('config', 'schema');
    assert.equal(status, 0);
    assert.match(JSON.parse(stdout).$schema, /json-schema\.org/);
  });
});
