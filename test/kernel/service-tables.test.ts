import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '../../agent/abi/codec.ts';
import { layouts, service_count } from '../../agent/abi/generated.ts';
import { objectPath } from '../../agent/engine/objects.ts';
import { openObject } from '../../agent/kernel/object.ts';
import { possibleCpus } from '../../agent/kernel/system.ts';
import { FAMILIES, type Family, parseAddress, parsePrefix } from '../../agent/lib/ip.ts';
import { kernelTables } from '../../agent/services/kernel-tables.ts';
import { CAPACITY } from '../../agent/services/room.ts';
import { openTableRecord } from '../../agent/services/table-record.ts';
import { putBackendTables, readBackendTable } from '../../agent/tables/backend-tables.ts';
import { noServiceCounts, readServiceCounts } from '../../agent/tables/service-counts.ts';
import { mountBpffs, skipReason } from './sandbox.ts';

const SIZE = 16_381;
const digestOf = (value: number) => value.toString(16).padStart(16, '0');
const TEXT: Record<Family, { vip: string; pod: string; range: string; inside: string }> = {
  ipv4: { vip: '10.96.0.1', pod: '10.0.1.10', range: '203.0.113.0/24', inside: '203.0.113.5' },
  ipv6: { vip: 'fd00:96::1', pod: 'fd00:1::10', range: '2001:db8::/32', inside: '2001:db8::5' },
};

/** The maps of a family that nobody else has. */
function openMaps(family: Family, stack: DisposableStack) {
  const object = stack.use(openObject(objectPath(`${family}.bpf.o`)));
  for (const program of object.programs()) object.setAutoload(program, false);
  object.load();
  return (name: string) => stack.use(object.map(name));
}

/** The record of tables, where nobody else has one. */
function openRecord(stack: DisposableStack) {
  return stack.use(openTableRecord(stack.use(mountBpffs()).path));
}

for (const family of FAMILIES) {
  const { vip, pod, range, inside } = TEXT[family];
  const addr = parseAddress(vip).bytes;

  test(`rows of services come back as they were set (${family})`, {
    skip: skipReason,
  }, async () => {
    using stack = new DisposableStack();
    const tables = kernelTables(family, openMaps(family, stack), openRecord(stack));
    const service = {
      ...{ addr, port: 80, proto: 6, scope: 1, id: 7, backends: 2 },
      ...{ affinity_timeout: 60, rev_nat_index: 0xfffe, flags: 0x2b },
    };
    const backend = {
      ...{ id: 0xffff_fffe, addr: parseAddress(pod).bytes, port: 8000 },
      ...{ proto: 17, state: 1, service_id: 7 },
    };
    const address = { addr: parseAddress(pod).bytes, port: 8000, proto: 17, count: 3 };
    const revNat = { index: 0xfffe, addr, port: 80, service_id: 7 };
    const source = { serviceId: 0x0102_0304, prefix: parsePrefix(range) };
    await tables.services.set([service]);
    await tables.backends.set([backend]);
    await tables.addresses.set([address]);
    await tables.revNat.set([revNat]);
    await tables.ranges.set([source]);
    assert.deepEqual(await tables.services.read(), [service]);
    assert.deepEqual(await tables.backends.read(), [backend]);
    assert.deepEqual(await tables.addresses.read(), [address]);
    assert.deepEqual(await tables.revNat.read(), [revNat]);
    assert.deepEqual(await tables.ranges.read(), [source]);
    await tables.services.remove([service, { ...service, port: 81 }]);
    await tables.ranges.remove([source]);
    assert.deepEqual(await tables.services.read(), []);
    assert.deepEqual(await tables.ranges.read(), []);
  });

  test(`a client is let in by the range of a service (${family})`, {
    skip: skipReason,
  }, async () => {
    using stack = new DisposableStack();
    const open = openMaps(family, stack);
    const map = open('source_ranges');
    const tables = kernelTables(family, open, openRecord(stack));
    await tables.ranges.set([{ serviceId: 7, prefix: parsePrefix(range) }]);
    const { source_range_key: layout } = layouts[family];
    const asks = (serviceId: number, client: string) => {
      const bytes = parseAddress(client).bytes;
      const service_id = new DataView(Uint8Array.of(0, 0, 0, serviceId).buffer).getUint32(0, true);
      const prefixlen = 32 + bytes.length * 8;
      return map.lookup(encode(layout, { prefixlen, service_id, addr: bytes })) !== undefined;
    };
    assert.deepEqual([asks(7, inside), asks(8, inside), asks(7, pod)], [true, false, false]);
  });

  test(`tables of backends are replaced as a whole, many at once (${family})`, {
    skip: skipReason,
  }, async () => {
    using stack = new DisposableStack();
    const open = openMaps(family, stack);
    const map = open('backend_tables');
    const { backendTables } = kernelTables(family, open, openRecord(stack));
    const filled = (serviceId: number, value: number) => ({
      ...{ serviceId, scope: serviceId & 1, digest: digestOf(value) },
      ids: new Uint32Array(SIZE).fill(value),
    });
    const many = Array.from({ length: 100 }, (_, i) => filled(i + 1, 1000 + i));
    await backendTables.put(many);
    await backendTables.put([filled(5, 9)]);
    assert.equal(readBackendTable(map, family, { serviceId: 5, scope: 1 })?.[SIZE - 1], 9);
    assert.equal(readBackendTable(map, family, { serviceId: 6, scope: 0 })?.[0], 1005);
    const found = await backendTables.read();
    assert.equal(found.length, 100);
    assert.equal(found.find(({ serviceId }) => serviceId === 5)?.digest, digestOf(9));
    await backendTables.remove(many.slice(1));
    const [{ ids: _, ...first }] = [filled(1, 1000)];
    assert.deepEqual(await backendTables.read(), [first]);
    assert.equal(readBackendTable(map, family, { serviceId: 5, scope: 1 }), undefined);
  });

  test(`what is in a table is known to who comes next, unless another one is there (${family})`, {
    skip: skipReason,
  }, async () => {
    using stack = new DisposableStack();
    const open = openMaps(family, stack);
    const { path } = stack.use(mountBpffs());
    const tablesBy = () => kernelTables(family, open, stack.use(openTableRecord(path)));
    const table = (serviceId: number) => {
      const ids = new Uint32Array(SIZE).fill(serviceId);
      return { serviceId, scope: 0, digest: digestOf(serviceId), ids };
    };
    await tablesBy().backendTables.put([table(1), table(2)]);
    await putBackendTables(open('backend_tables'), family, [table(2)]);
    const found = await tablesBy().backendTables.read();
    const digests = new Map(found.map(({ serviceId, digest }) => [serviceId, digest]));
    assert.deepEqual([digests.get(1), digests.get(2)], [digestOf(1), undefined]);
  });

  test(`the maps have room for what is taken into them (${family})`, { skip: skipReason }, () => {
    using stack = new DisposableStack();
    const open = openMaps(family, stack);
    const names = { services: 'services', backends: 'backends', ranges: 'source_ranges' };
    for (const [kind, name] of Object.entries({ ...names, tables: 'backend_tables' })) {
      assert.equal(open(name).maxEntries, CAPACITY[kind as keyof typeof CAPACITY], name);
    }
    assert.ok(open('rev_nat').maxEntries >= CAPACITY.revNat);
    assert.ok(open('backend_addresses').maxEntries >= CAPACITY.backends);
  });

  test(`counts are summed over the CPUs, and forgotten (${family})`, {
    skip: skipReason,
  }, async () => {
    using stack = new DisposableStack();
    const open = openMaps(family, stack);
    const map = open('service_counts');
    const values = new Uint8Array(BigUint64Array.from({ length: possibleCpus() }, () => 2n).buffer);
    const { SERVICE_CONNECTIONS, SERVICE_DROPS, BACKEND_CONNECTIONS } = service_count;
    for (const [id, kind, reason] of [
      [7, SERVICE_CONNECTIONS, 0],
      [7, SERVICE_DROPS, 16],
      [7, BACKEND_CONNECTIONS, 0],
    ]) {
      map.update(encode(layouts[family].service_count_key, { id, kind, reason } as never), values);
    }
    const read = async () => {
      const counts = noServiceCounts();
      await readServiceCounts(map, family, counts);
      return counts;
    };
    const sum = 2 * possibleCpus();
    assert.deepEqual(await read(), {
      connections: new Map([[7, sum]]),
      backendConnections: new Map([[7, sum]]),
      drops: new Map([[7, { service_no_backend: sum }]]),
    });
    await kernelTables(family, open, openRecord(stack)).forget({
      services: new Set([7]),
      backends: new Set([8]),
    });
    assert.deepEqual(await read(), {
      ...noServiceCounts(),
      backendConnections: new Map([[7, sum]]),
    });
  });
}
