import { Command } from 'commander';
import { packageVersion } from '../daemon/version.ts';
import { GROUPS } from './groups.ts';

/**
 * The command line for `args`. Only the group that `args` name is loaded: a listing must not
 * wait for the daemon's modules.
 */
export async function createProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('sekisho')
    .description('eBPF connection tracking and NAT for Linux nodes')
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('--config <file>', 'configuration file (default: /etc/sekisho/config.yaml)')
    .option('--verbose', 'explain errors in full')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'sekisho: ')),
    })
    .exitOverride();
  const wanted = groupIn(args);
  for (const group of GROUPS) {
    if (group.name === wanted) (await group.load()).register(program);
    else program.command(group.name).description(group.summary);
  }
  return program;
}

/** The first word that is neither an option, nor its value, nor `help`. */
function groupIn(args: readonly string[]): string | undefined {
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (arg === '--config') i++;
    else if (!arg.startsWith('-') && arg !== 'help') return arg;
  }
  return undefined;
}
