import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { watchNetwork } from '../../agent/engine/ip-tool.ts';
import { run } from '../lib/command.ts';
import { createScratch } from '../lib/scratch.ts';
import { until } from '../lib/wait.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };

test('what changed before the watch could hear it is read all the same', async (t) => {
  const scratch = createScratch();
  t.after(() => scratch.removeSync());
  const [asked, go] = ['asked', 'go'].map((name) => join(scratch.directory, name)) as [
    string,
    string,
  ];
  const path = process.env.PATH;
  t.after(() => {
    process.env.PATH = path;
  });
  const { stdout } = await run(['sh', '-c', 'command -v ip']);
  const lines = ['#!/bin/sh', `touch ${asked}`, `while [ ! -e ${go} ]; do sleep 0.02; done`];
  const wrapper = join(scratch.directory, 'ip');
  writeFileSync(wrapper, [...lines, `exec ${stdout.trim()} "$@"`].join('\n'));
  chmodSync(wrapper, 0o755);
  process.env.PATH = `${scratch.directory}:${path}`;

  let changes = 0;
  using _watch = watchNetwork(() => void changes++, QUIET);
  await until('the watch to begin', () => existsSync(asked));
  const before = changes;
  writeFileSync(go, '');
  await until('a look at the network', () => changes > before);
});
