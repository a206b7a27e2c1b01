import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { parseServices, type ServiceFile } from '../config/service-file.ts';
import { ConfigError } from '../lib/errors.ts';
import type { ApplyResult } from '../services/view.ts';
import { agentClient } from './client.ts';
import type { OutputOptions } from './context.ts';
import { configOf } from './context.ts';
import { createOutput, writeJson, writeLines } from './output.ts';

/** Ten thousand services take seconds, and what was asked for before comes first. */
const PATIENCE_MS = 600_000;
const STDIN = 0;

/**
 * Hands the services of a file to the daemon. What is wrong with one, there or here, is told and
 * leaves the others; the exit status is then 1.
 */
export async function applyServices(
  options: OutputOptions & { filename: string },
  command: Command,
): Promise<void> {
  const { runDir } = configOf(command).state;
  const name = options.filename === '-' ? 'stdin' : options.filename;
  const file = parseServices(readServices(options.filename, name), name);
  complain(file.errors.map(({ message }) => message));
  if (file.errors.length > 0 && file.services.length === 0) return;
  const body = { services: file.services };
  const { services: results } = await agentClient(runDir, PATIENCE_MS).post<{
    services: ApplyResult[];
  }>('/v1/services', body);
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, { services: results });
  else await writeLines(out, appliedLines(results));
  complain(rejections(results, name, file));
}

/** `service web created`, for each that was not rejected. */
export function appliedLines(results: readonly ApplyResult[]): string[] {
  return results
    .filter(({ result }) => result !== 'rejected')
    .map(({ name, result }) => `service ${name} ${result}`);
}

/** A line for each reason, with the place where the service stands in the file. */
export function rejections(
  results: readonly ApplyResult[],
  name: string,
  { services, placeOf }: Pick<ServiceFile, 'services' | 'placeOf'>,
): string[] {
  const byName = new Map(services.map((service) => [service.name, service]));
  return results
    .filter(({ result }) => result === 'rejected')
    .flatMap((rejected) => {
      const service = byName.get(rejected.name);
      const { line, column } = (service && placeOf(service)) ?? { line: 1, column: 1 };
      const place = `${name}:${line}:${column}: service ${rejected.name}`;
      return rejected.problems.map((problem) => `${place}: rejected: ${problem}`);
    });
}

function readServices(filename: string, name: string): string {
  try {
    return readFileSync(filename === '-' ? STDIN : filename, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'no such file' : (code ?? message);
    const hint = 'name a file of services with -f, or - for standard input';
    throw new ConfigError(`cannot read it: ${reason}`, { file: name }, { cause, hint });
  }
}

function complain(lines: readonly string[]): void {
  if (lines.length === 0) return;
  process.stderr.write(`${lines.join('\n')}\n`);
  process.exitCode = 1;
}
