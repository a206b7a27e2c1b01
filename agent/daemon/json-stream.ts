import { Readable } from 'node:stream';

/**
 * A JSON object with a list in it that is written batch by batch: a hundred thousand elements
 * never stand in memory at once, nor keep others waiting.
 */
export function jsonStream(
  name: string,
  batches: AsyncIterable<readonly unknown[]>,
  more: object = {},
): Readable {
  return Readable.from(textOf(name, batches, more));
}

async function* textOf(
  name: string,
  batches: AsyncIterable<readonly unknown[]>,
  more: object,
): AsyncGenerator<string, void, undefined> {
  let before = `{"${name}":[`;
  for await (const batch of batches) {
    if (batch.length === 0) continue;
    // the text of a list, without its brackets
    yield before + JSON.stringify(batch).slice(1, -1);
    before = ',';
  }
  const rest = JSON.stringify(more).slice(1);
  yield `${before === ',' ? '' : before}]${rest === '}' ? '' : ','}${rest}`;
}
