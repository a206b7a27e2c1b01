import type { Writable } from 'node:stream';

const BUFFER_CHARS = 64 * 1024;

/** The reader of standard output went away (`sekisho ct list | head`): no error of ours. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

/** Buffered text output that waits for a slow reader. */
export interface Output {
  /** Appends text; resolves once the reader has taken what was buffered before. */
  write(text: string): Promise<void> | undefined;
  /** Hands over what is left; rejects with ReaderGone when nobody reads. */
  flush(): Promise<void>;
}

/**
 * Collects text in pieces of about 64 KiB. `write` returns a promise only when a piece goes out,
 * so a caller that awaits what it gets holds a bounded amount of memory and pays little per line.
 */
export function createOutput(stream: Writable = process.stdout): Output {
  let buffered: string[] = [];
  let length = 0;
  let failure: Error | undefined;
  stream.on('error', (error: NodeJS.ErrnoException) => {
    failure = error.code === 'EPIPE' ? new ReaderGone() : error;
  });

  async function flush(): Promise<void> {
    if (failure) throw failure;
    if (length === 0) return;
    const text = buffered.join('');
    buffered = [];
    length = 0;
    await written(stream, text);
  }

  return {
    flush,
    write(text) {
      buffered.push(text);
      length += text.length;
      return length >= BUFFER_CHARS ? flush() : undefined;
    },
  };
}

/** Writes one line per item. */
export async function writeLines(out: Output, lines: AsyncIterable<string> | Iterable<string>) {
  for await (const line of lines) {
    const wait = out.write(`${line}\n`);
    if (wait) await wait;
  }
  await out.flush();
}

/** Writes one JSON document, an array, element by element. */
export async function writeJsonArray(
  out: Output,
  items: AsyncIterable<unknown> | Iterable<unknown>,
): Promise<void> {
  let separator = '[\n';
  for await (const item of items) {
    const wait = out.write(`${separator}${JSON.stringify(item)}`);
    if (wait) await wait;
    separator = ',\n';
  }
  await out.write(separator === '[\n' ? '[]\n' : '\n]\n');
  await out.flush();
}

/** Writes one JSON document for people and programs alike. */
export async function writeJson(out: Output, value: unknown): Promise<void> {
  await out.write(`${JSON.stringify(value, null, 2)}\n`);
  await out.flush();
}

function written(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => {
      if (!error) resolve();
      else reject((error as NodeJS.ErrnoException).code === 'EPIPE' ? new ReaderGone() : error);
    });
  });
}
