import { decode } from '../abi/codec.ts';
import { layouts, type Tuple } from '../abi/generated.ts';
import type { Layout } from '../abi/layout.ts';
import type { Family } from '../lib/ip.ts';
import { openFamilyMap } from './open.ts';

export interface Connection<Entry> {
  tuple: Tuple;
  entry: Entry;
}

/** Streams a table keyed by tuples, in no order; a million entries never sit in memory. */
export async function* listConnections<Entry>(
  bpffs: string,
  family: Family,
  name: string,
  value: Layout<Entry>,
): AsyncGenerator<Connection<Entry>, void, undefined> {
  const key = layouts[family].tuple;
  using map = openFamilyMap(bpffs, family, name, { key, value });
  for await (const { keys, values, count } of map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      yield {
        tuple: decode(key, keys, i * key.size),
        entry: decode(value, values, i * value.size),
      };
    }
  }
}
