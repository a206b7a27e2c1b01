import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Namespace } from './netns.ts';
import { slowly } from './wait.ts';

/** What a remote program offers: functions of one JSON value that answer with one. */
// biome-ignore lint/suspicious/noExplicitAny: each program types its own
export type Handlers = Record<string, (argument: any) => unknown>;

/** The same functions seen from the test: asynchronous, and gone when disposed. */
export type Remote<H extends Handlers> = AsyncDisposable & {
  [K in keyof H]: (...argument: Parameters<H[K]>) => Promise<Awaited<ReturnType<H[K]>>>;
};

interface Answer {
  id: number;
  result?: unknown;
  error?: string;
}

interface Waiter {
  resolve(value: unknown): void;
  reject(reason: Error): void;
}

/**
 * Runs a TypeScript program inside a namespace and calls its handlers over its standard input and
 * output, one JSON document a line. Disposing closes its input, at which it ends.
 */
export async function startRemote<H extends Handlers>(
  ns: Namespace,
  program: URL,
): Promise<Remote<H>> {
  const child = ns.spawn([process.execPath, program.pathname], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const { stdin, stdout, stderr } = child;
  if (!stdin || !stdout || !stderr) throw new Error('no pipes to the program');
  const waiting = new Map<number, Waiter>();
  let complaint = '';
  let lastId = 0;

  stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-4000);
  });
  stdin.on('error', () => {});
  createInterface(stdout).on('line', (line) => {
    const { id, result, error } = JSON.parse(line) as Answer;
    const waiter = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) waiter?.resolve(result);
    else waiter?.reject(new Error(error));
  });
  const gone = new Promise<void>((resolve) => {
    child.on('error', (error) => {
      complaint += error.message;
      resolve();
    });
    child.on('close', () => resolve());
  }).then(() => {
    for (const { reject } of waiting.values()) reject(new Error(`the program ended: ${complaint}`));
    waiting.clear();
  });

  const call = (method: string, argument: unknown) =>
    new Promise<unknown>((resolve, reject) => {
      if (child.exitCode !== null) return reject(new Error(`the program ended: ${complaint}`));
      const id = ++lastId;
      waiting.set(id, { resolve, reject });
      stdin.write(`${JSON.stringify({ id, method, argument })}\n`);
    });
  const dispose = async () => {
    stdin.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), slowly(2000));
    await gone;
    clearTimeout(timer);
  };

  await Promise.race([call('ready', null), gone]);
  return new Proxy({} as Remote<H>, {
    get(_, name) {
      if (name === Symbol.asyncDispose) return dispose;
      if (typeof name === 'symbol' || name === 'then') return undefined;
      return async (argument: unknown) => {
        try {
          return await call(name, argument ?? null);
        } catch (error) {
          throw new Error(`${name}: ${(error as Error).message}`);
        }
      };
    },
  });
}

/** The program's side: answers calls until its input ends, then exits. */
export function serveHandlers(handlers: Handlers): void {
  const all: Handlers = { ready: () => true, ...handlers };
  const answer = (value: Answer) => process.stdout.write(`${JSON.stringify(value)}\n`);
  const lines = createInterface(process.stdin);
  lines.on('line', async (line) => {
    const { id, method, argument } = JSON.parse(line) as {
      id: number;
      method: string;
      argument: unknown;
    };
    try {
      const handler = all[method];
      if (!handler) throw new Error(`no handler is called ${method}`);
      answer({ id, result: (await handler(argument)) ?? null });
    } catch (error) {
      answer({ id, error: error instanceof Error ? error.message : String(error) });
    }
  });
  void once(lines, 'close').then(() => process.exit(0));
}
