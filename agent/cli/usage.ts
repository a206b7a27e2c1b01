import { type Command, CommanderError } from 'commander';
import { SekishoError } from '../lib/errors.ts';

/** The words of `args` that can name commands: no options, and not the value of `--config`. */
export function wordsOf(args: readonly string[]): string[] {
  return args.filter((arg, i) => !arg.startsWith('-') && args[i - 1] !== '--config');
}

/**
 * Runs what `args` ask for. Wrong usage is thrown as E_USAGE, always with a hint; a CommanderError
 * passes when it stands for help or the version, which are printed by then.
 */
export async function runProgram(program: Command, args: readonly string[]): Promise<void> {
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) throw refusal(error, program, args);
    throw isUnexplained(error) ? explained(error, program, args) : error;
  }
}

function refusal(error: CommanderError, program: Command, args: readonly string[]): Error {
  const PREFIX = 'error: ';
  if (!error.message.startsWith(PREFIX)) return error;
  const [message = '', suggestion] = error.message.slice(PREFIX.length).split('\n');
  const meant = suggestion?.replace(/^\(Did (.*)\)$/, 'did $1');
  return new SekishoError('E_USAGE', message.replace(/\.$/, ''), {
    hint: meant ?? helpHint(program, args),
  });
}

function isUnexplained(error: unknown): error is SekishoError {
  return error instanceof SekishoError && error.code === 'E_USAGE' && !error.hint;
}

function explained({ message, cause }: SekishoError, program: Command, args: readonly string[]) {
  return new SekishoError('E_USAGE', message, { cause, hint: helpHint(program, args) });
}

/** `see: sekisho ct list --help`. */
function helpHint(program: Command, args: readonly string[]): string {
  const names = [program.name()];
  let command: Command | undefined = program;
  for (const word of wordsOf(args)) {
    command = command?.commands.find((known) => known.name() === word);
    if (!command) break;
    names.push(word);
  }
  return `see: ${names.join(' ')} --help`;
}
