import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

/** Of all frames of a chain of calls, and how Linux 6.1 rounds each (later kernels: to 16). */
const STACK = 512;
const FRAME = 32;

const ROOT = join(import.meta.dirname, '../..');
const SOURCES = ['datapath', 'reap', 'copy'];
const clang = ['clang-19', 'clang'].find((name) => !spawnSync(name, ['--version']).error);

interface Functions {
  /** Bytes of each function's own frame, as the compiler lays it out. */
  frames: Map<string, number>;
  /** Who calls whom, or hands whom to a helper that will. */
  calls: Map<string, string[]>;
}

function compile(family: string, source: string, directory: string): Functions {
  const output = join(directory, `${family}-${source}`);
  const flags = ['-target', 'bpf', '-mcpu=v3', '-O2', '-Ibpf', '-fstack-usage'];
  const headers = [
    '-isystem',
    `/usr/include/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`,
  ];
  const input = ['-include', `bpf/family/${family}.h`, `bpf/${source}.bpf.c`];
  for (const form of [
    ['-c', '-o', `${output}.o`],
    ['-S', '-emit-llvm', '-o', `${output}.ll`],
  ]) {
    const { status, stderr } = spawnSync(clang ?? '', [...flags, ...headers, ...form, ...input], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
  }
  return { frames: readFrames(`${output}.su`), calls: readCalls(`${output}.ll`) };
}

/** Lines of `file:line:function<tab>bytes<tab>kind`. */
function readFrames(file: string): Functions['frames'] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return new Map(
    lines.map((line) => {
      const [place = '', bytes] = line.split('\t');
      return [place.slice(place.lastIndexOf(':') + 1), Number(bytes)];
    }),
  );
}

function readCalls(file: string): Functions['calls'] {
  const bodies = readFileSync(file, 'utf8').matchAll(/^define [^@]*@(\w+)\((.*?)^}/gms);
  const texts = new Map(Array.from(bodies, ([, name = '', body = '']) => [name, body]));
  return new Map(
    Array.from(texts, ([name, body]) => {
      const named = Array.from(body.matchAll(/@(\w+)/g), ([, callee = '']) => callee);
      return [name, [...new Set(named)].filter((callee) => texts.has(callee))];
    }),
  );
}

/** The chain of calls from a function on that takes the most stack. */
function deepest({ frames, calls }: Functions, name: string): { bytes: number; chain: string[] } {
  const own = Math.ceil(Math.max(frames.get(name) ?? 0, 1) / FRAME) * FRAME;
  const below = (calls.get(name) ?? []).map((callee) => deepest({ frames, calls }, callee));
  const [worst = { bytes: 0, chain: [] }] = below.toSorted((a, b) => b.bytes - a.bytes);
  return { bytes: own + worst.bytes, chain: [`${name} ${own}`, ...worst.chain] };
}

for (const family of ['ipv4', 'ipv6']) {
  test(`every chain of calls fits the stack that Linux 6.1 gives it (${family})`, {
    skip: !clang && 'needs clang',
  }, () => {
    const directory = mkdtempSync(join(tmpdir(), 'sekisho-stack-'));
    try {
      for (const source of SOURCES) {
        const functions = compile(family, source, directory);
        assert.ok(functions.calls.size > 1 && functions.frames.size === functions.calls.size);
        for (const name of functions.calls.keys()) {
          const { bytes, chain } = deepest(functions, name);
          assert.ok(bytes <= STACK, `${bytes} bytes: ${chain.join(' > ')}`);
        }
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}
