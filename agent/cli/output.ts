import type { Writable } from 'node:stream';

const PIECE = 64 * 1024;
/** Bytes that UTF-8 takes for one UTF-16 unit at most. */
const UNIT = 3;

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
 * Collects text, as bytes, in pieces of about 64 KiB. `write` returns a promise only when a piece
 * goes out, so a caller that awaits what it gets holds a bounded amount of memory and pays little
 * per line.
 */
export function createOutput(stream: Writable = process.stdout): Output {
  let piece = Buffer.allocUnsafe(PIECE);
  let spare: typeof piece | undefined;
  let length = 0;
  let failure: Error | undefined;
  stream.on('error', (error: NodeJS.ErrnoException) => {
    failure = error.code === 'EPIPE' ? new ReaderGone() : error;
  });

  async function flush(): Promise<void> {
    if (failure) throw failure;
    if (length === 0) return;
    const full = piece;
    const text = full.subarray(0, length);
    piece = spare ?? Buffer.allocUnsafe(PIECE);
    spare = undefined;
    length = 0;
    await written(stream, text);
    spare = full;
  }

  async function writeLong(text: string): Promise<void> {
    await flush();
    if (failure) throw failure;
    await written(stream, Buffer.from(text));
  }

  return {
    flush,
    write(text) {
      const room = text.length * UNIT;
      if (room > PIECE) return writeLong(text);
      const wait = length + room > PIECE ? flush() : undefined;
      length += piece.write(text, length);
      return wait;
    },
  };
}

/** Takes items one at a time; `end` makes the document complete and hands it over. */
export interface ItemWriter<Item> {
  write(item: Item): Promise<void> | undefined;
  end(): Promise<void>;
}

/** One line per item. */
export function lineWriter(out: Output): ItemWriter<string> {
  return { write: (line) => out.write(`${line}\n`), end: out.flush };
}

/** One JSON document, an array, element by element. */
export function jsonArrayWriter(out: Output): ItemWriter<unknown> {
  let separator = '[\n';
  return {
    write(item) {
      const text = `${separator}${JSON.stringify(item)}`;
      separator = ',\n';
      return out.write(text);
    },
    async end() {
      await out.write(separator === '[\n' ? '[]\n' : '\n]\n');
      await out.flush();
    },
  };
}

export function writeLines(out: Output, lines: Iterable<string>): Promise<void> {
  return writeAll(lineWriter(out), lines);
}

export function writeJsonArray(out: Output, items: Iterable<unknown>): Promise<void> {
  return writeAll(jsonArrayWriter(out), items);
}

/** Writes one JSON document for people and programs alike. */
export async function writeJson(out: Output, value: unknown): Promise<void> {
  await out.write(`${JSON.stringify(value, null, 2)}\n`);
  await out.flush();
}

function written(stream: Writable, text: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => {
      if (!error) resolve();
      else reject((error as NodeJS.ErrnoException).code === 'EPIPE' ? new ReaderGone() : error);
    });
  });
}

async function writeAll<Item>(writer: ItemWriter<Item>, items: Iterable<Item>): Promise<void> {
  for (const item of items) {
    const wait = writer.write(item);
    if (wait) await wait;
  }
  await writer.end();
}
