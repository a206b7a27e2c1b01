import { styleText } from 'node:util';

/** Tells a story on standard output and remembers what did not come true. */
export interface Narrator {
  heading(text: string): void;
  say(text: string): void;
  /** A command as a reader would type it, and what it printed. */
  show(command: string, output: string): void;
  /** A line that ends in a tick or a cross. */
  check(holds: boolean, text: string): void;
  /** Claims that did not hold. */
  readonly broken: readonly string[];
}

const INDENT = '   ';

export function createNarrator(): Narrator {
  const broken: string[] = [];
  let chapters = 0;
  let afterBlank = true;
  const print = (text: string) => {
    afterBlank = text === '';
    process.stdout.write(`${text}\n`);
  };
  const space = () => {
    if (!afterBlank) print('');
  };
  return {
    heading(text) {
      space();
      print(styleText('bold', `${++chapters}. ${text}`));
      print('');
    },
    say(text) {
      print(text === '' ? '' : INDENT + text);
    },
    show(command, output) {
      space();
      print(`${INDENT}${styleText('cyan', `$ ${command}`)}`);
      for (const line of output.trimEnd().split('\n')) print(INDENT + line);
      print('');
    },
    check(holds, text) {
      if (!holds) broken.push(text);
      const mark = holds ? styleText('green', '✔') : styleText('red', '✘ not so:');
      print(`${INDENT}${mark} ${text}`);
    },
    broken,
  };
}
