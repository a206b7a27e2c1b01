import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ApplyResult } from '../../agent/services/view.ts';

const SEKISHO = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));

interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

/** What the daemon was asked for. */
interface Asked {
  method: string | undefined;
  url: string | undefined;
  body: string;
}

describe('service apply', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sekisho-apply-'));
  const config = file('config.yaml', `state: { bpffs: ${directory}, runDir: ${directory} }\n`);
  const asked: Asked[] = [];
  let answer: { status: number; body: unknown } = { status: 200, body: { services: [] } };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    asked.push({ method: request.method, url: request.url, body });
    response.statusCode = answer.status;
    response.end(JSON.stringify(answer.body));
  });

  before(() => new Promise<void>((done) => server.listen(join(directory, 'agent.sock'), done)));
  after(async () => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    rmSync(directory, { recursive: true });
  });

  function file(name: string, text: string): string {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  }

  function run(args: readonly string[], input = '', delay = 0): Promise<Outcome> {
    return new Promise((resolve) => {
      const all = ['service', ...args, '--config', config];
      const child = execFile(SEKISHO, all, (error, stdout, stderr) => {
        resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
      });
      setTimeout(() => child.stdin?.end(input), delay);
    });
  }

  function answered(...services: Partial<ApplyResult>[]) {
    answer = { status: 200, body: { services } };
    asked.length = 0;
  }

  it('hands over what the file says, and tells what became of each service', async () => {
    answered(
      { name: 'web', result: 'created', problems: [] },
      { name: 'dns', result: 'unchanged', problems: [] },
    );
    const path = file(
      'two.yaml',
      '- { name: web, sessionAffinity: { timeout: 1h } }\n- name: dns\n',
    );
    const { status, stdout, stderr } = await run(['apply', '-f', path]);
    assert.deepEqual([status, stderr], [0, '']);
    assert.equal(stdout, 'service web created\nservice dns unchanged\n');
    const [{ method, url, body } = { body: '' }] = asked;
    assert.deepEqual([method, url], ['POST', '/v1/services']);
    assert.deepEqual(JSON.parse(body), {
      services: [{ name: 'web', sessionAffinity: { timeout: '1h' } }, { name: 'dns' }],
    });
  });

  it('waits for standard input', async () => {
    answered({ name: 'web', result: 'created', problems: [] });
    const { status, stderr } = await run(['apply', '-f', '-'], '{"name": "web"}', 3000);
    assert.deepEqual([status, stderr], [0, '']);
  });

  it('reads standard input, and answers in JSON', async () => {
    const done: ApplyResult = { name: 'web', result: 'updated', id: 3, problems: [] };
    answered(done);
    const { status, stdout } = await run(['apply', '-f', '-', '-o', 'json'], '{"name": "web"}');
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), { services: [done] });
  });

  it('exits 1 with place and reason of what was rejected; the rest is applied', async () => {
    const problems = ['10.0.1.7 is inside a pod range', 'backend 10.0.1.9:80 stands there twice'];
    answered(
      { name: 'web', result: 'created', problems: [] },
      { name: 'bad', result: 'rejected', problems },
    );
    const path = file('bad.yaml', 'services:\n  - name: web\n  - type: ClusterIP\n    name: bad\n');
    const { status, stdout, stderr } = await run(['apply', '-f', path]);
    assert.deepEqual([status, stdout], [1, 'service web created\n']);
    assert.deepEqual(stderr.trimEnd().split('\n'), [
      `${path}:4:11: service bad: ${problems[0]}`,
      `${path}:4:11: service bad: ${problems[1]}`,
    ]);
  });

  it('says with line and column what is wrong in a service that was rejected', async () => {
    answered(
      { name: 'web', result: 'rejected', problems: ['type: expected …'] },
      { name: 'web/', result: 'rejected', problems: ['node: unknown key'] },
      { name: 'dns', result: 'created', problems: [] },
    );
    const wrong = '- { name: web, type: Balancer }\n- { name: web/, node: 1, port: 2 }\n';
    const path = file('wrong.yaml', `${wrong}- { name: dns }\n`);
    const { status, stdout, stderr } = await run(['apply', '-f', path]);
    assert.deepEqual([status, stdout], [1, 'service dns created\n']);
    const places = stderr
      .trimEnd()
      .split('\n')
      .map((line) => line.slice(path.length).split(': ', 2).join(': '));
    assert.deepEqual(places, [':1:22: [0].type', ':2:17: [1].node', ':2:26: [1].port']);
  });

  it('asks for nothing where a file holds no services', async () => {
    answered();
    for (const text of ['name: [web\n', 'services: [], node: 1\n', 'web\n', '']) {
      const { status, stderr } = await run(['apply', '-f', '-'], text);
      assert.equal(status, 1);
      assert.match(stderr, /^stdin:\d+:\d+: /);
    }
    assert.deepEqual(asked, []);
  });

  it('passes on why the daemon refuses', async () => {
    answer = { status: 409, body: { code: 'E_CONFLICT', message: 'not now', hint: 'later' } };
    const { status, stderr } = await run(['apply', '-f', '-'], 'name: web\n');
    assert.deepEqual([status, stderr], [1, 'sekisho: not now (later)\n']);
  });

  it('needs a file that can be read', async () => {
    assert.equal((await run(['apply'])).status, 2);
    const { status, stderr } = await run(['apply', '-f', join(directory, 'absent.yaml')]);
    assert.equal(status, 1);
    assert.match(stderr, /^sekisho: .*absent\.yaml: cannot read it: no such file \(/);
  });
});

describe('service delete', () => {
  it('needs a name', async () => {
    const status = await new Promise((done) => {
      execFile(SEKISHO, ['service', 'delete'], (error) => done(error?.code));
    });
    assert.equal(status, 2);
  });
});
