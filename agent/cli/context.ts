import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { findConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { SekishoError } from '../lib/errors.ts';
import { FAMILIES } from '../lib/ip.ts';

/** Options that stand on the program itself, before or after the subcommand. */
export interface GlobalOptions {
  config?: string;
  verbose?: boolean;
}

/** The option of every listing. */
export interface OutputOptions {
  output?: 'json';
}

/**
 * The configuration that `--config` names; of one that is not valid, which a line on stderr says,
 * what `findConfig` finds. Throws ConfigError.
 */
export function configOf(command: Command): Config {
  const { config, problem } = findConfig(command.optsWithGlobals<GlobalOptions>().config);
  if (problem)
    process.stderr.write(`sekisho: note: the configuration is not valid: ${problem.message}\n`);
  return config;
}

/** Where the pinned maps are. Throws E_NO_MAPS when nothing was ever pinned there. */
export function pinsOf(command: Command): string {
  const { bpffs } = configOf(command).state;
  requirePins(bpffs);
  return bpffs;
}

/** Throws E_NO_MAPS unless the tables of a family are pinned under `bpffs`. */
export function requirePins(bpffs: string): void {
  if (FAMILIES.some((family) => isVisible(join(bpffs, family, 'ct_tcp')))) return;
  throw new SekishoError('E_NO_MAPS', `no maps are pinned under ${bpffs}`, {
    hint: 'start the agent once, or name its configuration with --config',
  });
}

export function addOutputOption(command: Command): Command {
  return command.addOption(new Option('-o, --output <format>', 'output format').choices(['json']));
}

function isVisible(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EACCES') return false;
    throw new SekishoError('E_PRIVILEGE', `cannot look into ${path}`, {
      cause,
      hint: 'run as root',
    });
  }
}
