import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { configJsonSchema } from '../../agent/config/schema.ts';
import { allPaths } from '../../agent/config/schema-walk.ts';
import { editDistance, nearest } from '../../agent/config/suggest.ts';
import { splitListen } from '../../agent/config/values.ts';

interface Node {
  description?: string;
  default?: unknown;
  type?: string;
  properties?: Record<string, Node>;
  items?: Node;
  additionalProperties?: boolean;
}

/** Every property of a schema with its dotted path. */
function* properties(node: Node, prefix = ''): Generator<[string, Node]> {
  if (node.items) yield* properties(node.items, `${prefix}[]`);
  for (const [key, value] of Object.entries(node.properties ?? {})) {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    yield [path, value];
    yield* properties(value, path);
  }
}

describe('the JSON Schema', () => {
  const schema = configJsonSchema() as Node;

  it('describes every key', () => {
    const bare = [...properties(schema)].filter(([, node]) => !node.description);
    assert.deepEqual(
      bare.map(([path]) => path),
      [],
    );
  });

  it('carries defaults as they are written in the file', () => {
    const byPath = new Map(properties(schema));
    assert.equal(byPath.get('conntrack.timeouts.tcp')?.default, '2h13m20s');
    assert.equal(byPath.get('masquerade.ports.min')?.default, 32_768);
    assert.equal(byPath.get('maps.ctTcp')?.default, 'auto');
  });

  it('refuses unknown keys everywhere', () => {
    const open = [...properties(schema)].filter(
      ([, node]) => node.properties && node.additionalProperties !== false,
    );
    assert.deepEqual(open, []);
  });

  it('and the walk over the schema know the same keys', () => {
    assert.deepEqual(allPaths().sort(), [...properties(schema)].map(([path]) => path).sort());
  });
});

describe('docs/configuration.md', () => {
  it('explains every key', () => {
    const text = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
    const missing = allPaths().filter((path) => !text.includes(`\`${path}\``));
    assert.deepEqual(missing, []);
  });
});

describe('the nearest known key', () => {
  it('is measured in edits', () => {
    assert.equal(editDistance('kitten', 'sitting'), 3);
    assert.equal(editDistance('', 'abc'), 3);
    assert.equal(editDistance('same', 'same'), 0);
  });

  it('ignores upper and lower case', () => {
    assert.equal(nearest('podcidrs', ['name', 'podCIDRs']), 'podCIDRs');
    assert.equal(nearest('anything', []), undefined);
  });
});

describe('metrics.listen', () => {
  it('is an address and a port', () => {
    assert.deepEqual(splitListen('127.0.0.1:9964'), { host: '127.0.0.1', port: 9964 });
    assert.deepEqual(splitListen('[::1]:0'), { host: '::1', port: 0 });
    assert.deepEqual(splitListen('localhost:80'), { host: 'localhost', port: 80 });
  });

  it('is nothing else', () => {
    for (const bad of ['9964', ':9964', '::1:9964', '127.0.0.1:65536', '127.0.0.1', 'host:1']) {
      assert.equal(splitListen(bad), undefined, bad);
    }
  });
});
