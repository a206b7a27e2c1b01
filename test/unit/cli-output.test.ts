import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { describe, it } from 'node:test';
import {
  createOutput,
  ReaderGone,
  writeJson,
  writeJsonArray,
  writeLines,
} from '../../agent/cli/output.ts';
import { formatTable } from '../../agent/cli/text-table.ts';

/** A stream that takes its time and remembers the pieces it was given. */
function slowSink() {
  const pieces: string[] = [];
  const stream = new Writable({
    highWaterMark: 1,
    write(chunk: Buffer, _encoding, done) {
      pieces.push(String(chunk));
      setImmediate(done);
    },
  });
  return { stream, pieces };
}

function closedSink(): Writable {
  return new Writable({
    write(_chunk, _encoding, done) {
      done(Object.assign(new Error('closed'), { code: 'EPIPE' }));
    },
  });
}

describe('the output', () => {
  it('goes out in large pieces and never piles up', async () => {
    const { stream, pieces } = slowSink();
    let ahead = 0;
    function* lines() {
      for (let i = 0; i < 10_000; i++) {
        ahead = Math.max(ahead, i - pieces.join('').length / 101);
        yield 'x'.repeat(100);
      }
    }
    await writeLines(createOutput(stream), lines());
    assert.equal(pieces.join('').length, 10_000 * 101);
    assert.ok(pieces.length < 20, `${pieces.length} pieces`);
    assert.ok(ahead < 700, `${ahead} lines ahead`);
  });

  it('ends quietly when the reader has gone', async () => {
    function* endless() {
      for (;;) yield 'y'.repeat(1000);
    }
    await assert.rejects(writeLines(createOutput(closedSink()), endless()), ReaderGone);
  });
});

describe('a JSON array', () => {
  it('is one valid document, whatever its length', async () => {
    for (const items of [[], [{ a: 1 }], [{ a: 1 }, { b: 'x\ny' }, null]]) {
      const { stream, pieces } = slowSink();
      await writeJsonArray(createOutput(stream), items);
      assert.deepEqual(JSON.parse(pieces.join('')), items);
    }
  });

  it('can be one object as well', async () => {
    const { stream, pieces } = slowSink();
    await writeJson(createOutput(stream), { healthy: true });
    assert.deepEqual(JSON.parse(pieces.join('')), { healthy: true });
  });
});

describe('a text table', () => {
  it('sets numbers to the right and words to the left', () => {
    assert.deepEqual(
      formatTable(
        ['NAME', 'COUNT', 'NOTE'],
        [
          ['a', 7, 'x'],
          ['long', 1234, ''],
        ],
      ),
      ['NAME  COUNT  NOTE', 'a         7  x', 'long   1234'],
    );
  });
});
