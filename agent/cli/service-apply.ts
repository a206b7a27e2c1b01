import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { reasonUnreadable } from '../config/load.ts';
import { parseServices, type ServiceFile } from '../config/service-file.ts';
import { ConfigError } from '../lib/errors.ts';
import type { ApplyResult } from '../services/view.ts';
import { agentClient } from './client.ts';
import type { OutputOptions } from './context.ts';
import { configOf } from './context.ts';
import { createOutput, writeJson, writeLines } from './output.ts';

/** Ten thousand services take seconds, and what was asked for before comes first. */
const PATIENCE_MS = 600_000;

/**
 * Hands the services of a file to the daemon, which judges each of them by itself. What it rejects
 * is told with its place in the file, and makes the exit status 1.
 */
export async function applyServices(
  options: OutputOptions & { filename: string },
  command: Command,
): Promise<void> {
  const { runDir } = configOf(command).state;
  const name = options.filename === '-' ? 'stdin' : options.filename;
  const file = parseServices(await readServices(options.filename, name), name);
  complain(file.errors.map(({ message }) => message));
  if (file.errors.length > 0) return;
  const { services } = file;
  const answer = await agentClient(runDir, PATIENCE_MS).post<{ services: ApplyResult[] }>(
    '/v1/services',
    { services },
  );
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, answer);
  else await writeLines(out, appliedLines(answer.services));
  complain(rejections(answer.services, name, file));
}

/** `service web created`, for each that was not rejected. */
function appliedLines(results: readonly ApplyResult[]): string[] {
  return results
    .filter(({ result }) => result !== 'rejected')
    .map(({ name, result }) => `service ${name} ${result}`);
}

/**
 * A line for each reason why a service was rejected. What is wrong with it by itself has a place of
 * its own; what it contradicts is told where its name stands. Results are in the order of the file.
 */
function rejections(results: readonly ApplyResult[], name: string, file: ServiceFile): string[] {
  return results.flatMap(({ name: service, result, problems }, index) => {
    if (result !== 'rejected') return [];
    const errors = file.explain(index);
    if (errors.length > 0) return errors.map(({ message }) => message);
    const { line, column } = file.placeOf(index);
    return problems.map((problem) => `${name}:${line}:${column}: service ${service}: ${problem}`);
  });
}

async function readServices(filename: string, name: string): Promise<string> {
  try {
    return filename === '-' ? await text(process.stdin) : await readFile(filename, 'utf8');
  } catch (cause) {
    const reason = reasonUnreadable(cause);
    const hint = 'name a file of services with -f, or - for standard input';
    throw new ConfigError(`cannot read it: ${reason}`, { file: name }, { cause, hint });
  }
}

function complain(lines: readonly string[]): void {
  if (lines.length === 0) return;
  process.stderr.write(`${lines.join('\n')}\n`);
  process.exitCode = 1;
}
