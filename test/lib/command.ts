import { type SpawnOptions, spawn } from 'node:child_process';
import { slowly } from './wait.ts';

export interface Output {
  stdout: string;
  stderr: string;
  /** Exit status, or 128 + signal number as shells say it. */
  code: number;
}

export class CommandError extends Error {
  readonly output: Output;

  constructor(command: readonly string[], output: Output) {
    super(`${command.join(' ')}: exit ${output.code}\n${output.stderr || output.stdout}`.trim());
    this.output = output;
  }
}

export interface RunOptions extends SpawnOptions {
  input?: string;
  /** Milliseconds after which the command is killed, before `slowly`; default 60,000. */
  limit?: number;
}

/** Runs a command to its end and collects what it said. Never rejects for its exit status. */
export function tryRun(command: readonly string[], options: RunOptions = {}): Promise<Output> {
  const { input, limit = 60_000, ...rest } = options;
  const [file = '', ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      ...rest,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: slowly(limit),
    });
    const output: Output = { stdout: '', stderr: '', code: 0 };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output.stderr += text;
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(input ?? '');
    child.on('error', reject);
    child.on('close', (code, signal) => {
      output.code = code ?? (signal === 'SIGKILL' ? 137 : 143);
      resolve(output);
    });
  });
}

/** The same; rejects with CommandError unless the command exits with 0. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<Output> {
  const output = await tryRun(command, options);
  if (output.code !== 0) throw new CommandError(command, output);
  return output;
}
