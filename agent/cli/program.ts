import { Command } from 'commander';
import { packageVersion } from '../daemon/version.ts';
import { GROUPS } from './groups.ts';
import { wordsOf } from './usage.ts';

/**
 * The command line for `args`. Only the group that `args` name is loaded: a listing must not
 * wait for the daemon's modules. What it refuses is thrown, not printed.
 */
export async function createProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('sekisho')
    .description('eBPF connection tracking, NAT and services for Linux nodes')
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('--config <file>', 'configuration file (default: /etc/sekisho/config.yaml)')
    .option('--verbose', 'explain errors in full')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  const wanted = wordsOf(args).find((word) => word !== 'help');
  for (const group of GROUPS) {
    if (group.name === wanted) (await group.load()).register(program);
    else program.command(group.name).description(group.summary);
  }
  return program;
}
