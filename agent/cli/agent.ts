import type { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { loadConfigAside } from '../config/load-aside.ts';
import { catchSignals } from '../daemon/signals.ts';
import type { GlobalOptions } from './context.ts';

export function register(program: Command): void {
  program
    .command('agent')
    .description('run the daemon in the foreground')
    .action(async (_options, command: Command) => {
      using signals = catchSignals();
      const { config: file } = command.optsWithGlobals<GlobalOptions>();
      const config = loadConfig(file);
      const { runAgent } = await import('../daemon/agent.ts');
      await runAgent(config, () => loadConfigAside(file), signals);
    });
}
