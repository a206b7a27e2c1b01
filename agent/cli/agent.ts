import type { Command } from 'commander';
import { configOf } from './context.ts';

export function register(program: Command): void {
  program
    .command('agent')
    .description('run the daemon in the foreground')
    .action(async (_options, command: Command) => {
      const config = configOf(command);
      const { runAgent } = await import('../daemon/agent.ts');
      await runAgent(config);
    });
}
