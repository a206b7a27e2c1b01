import assert from 'node:assert/strict';
import { test } from 'node:test';
import { objectPath } from '../../agent/engine/objects.ts';
import { isOuter } from '../../agent/engine/pinned-tables.ts';
import { tableLayout } from '../../agent/engine/table-layout.ts';
import { openObject } from '../../agent/kernel/object.ts';
import { FAMILIES } from '../../agent/lib/ip.ts';
import { skipReason } from './sandbox.ts';

for (const family of FAMILIES) {
  test(`every pinned map has a layout of the right sizes (${family})`, { skip: skipReason }, () => {
    using object = openObject(objectPath(`${family}.bpf.o`));
    for (const program of object.programs()) object.setAutoload(program, false);
    object.load();
    const names = object.maps().filter((name) => !name.includes('.') && !isOuter(name));
    assert.ok(names.includes('snat'));
    for (const name of names) {
      const { key, value } = tableLayout(family, name);
      using map = object.map(name);
      if (map.type === 'ringbuf') continue; // the kernel does not know what its records are
      if (map.type === 'hash_of_maps') continue; // nor what the maps in it hold
      const { keySize, valueSize, maxEntries } = map;
      const size = name === 'counters' ? valueSize * maxEntries : valueSize;
      assert.deepEqual([name, key.size, value.size], [name, keySize, size]);
    }
  });
}
