import { CommanderError } from 'commander';
import { type ErrorCode, formatError, SekishoError } from '../lib/errors.ts';
import { ReaderGone } from './output.ts';
import { createProgram } from './program.ts';
import { runProgram } from './usage.ts';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
const WRONG_USAGE: readonly ErrorCode[] = ['E_USAGE', 'E_BAD_ADDRESS'];
const args = process.argv.slice(2);

try {
  await runProgram(await createProgram(args), args);
} catch (error) {
  process.exitCode = exitCodeFor(error);
}

function exitCodeFor(error: unknown): number {
  if (error instanceof ReaderGone) return 0;
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  process.stderr.write(`${formatError(error, { verbose: args.includes('--verbose') })}\n`);
  return error instanceof SekishoError && WRONG_USAGE.includes(error.code)
    ? EXIT_USAGE
    : EXIT_FAILURE;
}
