import { readFileSync, renameSync, rmSync } from 'node:fs';
import { check, EEXIST, ENOENT } from './error.ts';
import { callAsync, type Fd, libbpf } from './ffi.ts';
import { duplicate, HANDLE, Handle, Owned, openPinned, readInfo, readName } from './handle.ts';
import {
  type Batch,
  deleteElements,
  eachElement,
  insertElements,
  updateElements,
  walkElements,
} from './map-batch.ts';
import { isMapInMap, isPerCpu, MAP_TYPES, type MapType, mapTypeName } from './map-types.ts';
import { Mapping } from './mapping.ts';
import { Opts } from './opts.ts';
import { possibleCpus } from './system.ts';

const UPDATE_FLAGS = { any: 0, noexist: 1, exist: 2 } as const;

export type UpdateFlag = keyof typeof UPDATE_FLAGS;

export interface MapShape {
  type: keyof typeof MAP_TYPES;
  /** At most 15 characters survive in the kernel. */
  name: string;
  /** Bytes. */
  keySize: number;
  /** Bytes of one value, of one CPU. */
  valueSize: number;
  maxEntries: number;
  /** OR of MAP_FLAGS. */
  flags?: number;
  /** What an outer map holds; its shape is copied, the map itself not inserted. */
  inner?: BpfMap;
}

/**
 * One BPF map. Keys and values are bytes as the kernel has them. In a per-CPU map a value is
 * `valueStride` bytes: one `valueSize`, rounded up to 8, for each possible CPU.
 */
export class BpfMap extends Owned {
  readonly name: string;
  readonly type: MapType;
  readonly id: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** Bytes a value takes in `lookup`, `update` and batches. */
  readonly valueStride: number;
  #mapping: Mapping | undefined;

  /** Takes the descriptor over. Made by `createMap`, `openPinnedMap` and their like. */
  constructor(fd: Fd, name?: string) {
    const info = readInfo(fd, 88);
    const kernelName = readName(info, 24);
    super(new Handle(fd, `map ${name ?? kernelName}`));
    this.name = name ?? kernelName;
    this.type = mapTypeName(info.getUint32(0, true));
    this.id = info.getUint32(4, true);
    this.keySize = info.getUint32(8, true);
    this.valueSize = info.getUint32(12, true);
    this.maxEntries = info.getUint32(16, true);
    this.flags = info.getUint32(20, true);
    this.valueStride = isPerCpu(this.type)
      ? ((this.valueSize + 7) & ~7) * possibleCpus()
      : this.valueSize;
  }

  /** A copy of the value, or undefined. */
  lookup(key: Uint8Array): Uint8Array | undefined {
    const value = new Uint8Array(this.valueStride);
    return this.lookupInto(key, value) ? value : undefined;
  }

  /** Like `lookup`, into memory of the caller; false without touching it when there is none. */
  lookupInto(key: Uint8Array, value: Uint8Array): boolean {
    this.#expect(key, value);
    const rc = libbpf().bpf_map_lookup_elem(this[HANDLE].fd, key, value);
    if (rc === -ENOENT) return false;
    check(rc, () => `look up a key in ${this.name}`);
    return true;
  }

  /** `noexist` fails with EEXIST, `exist` with ENOENT. */
  update(key: Uint8Array, value: Uint8Array, flag: UpdateFlag = 'any'): void {
    this.#expect(key, value);
    const rc = libbpf().bpf_map_update_elem(this[HANDLE].fd, key, value, UPDATE_FLAGS[flag]);
    check(rc, () => `update a key of ${this.name}`);
  }

  /** Adds a key; false when it is there already. */
  insert(key: Uint8Array, value: Uint8Array): boolean {
    this.#expect(key, value);
    const fd = this[HANDLE].fd;
    const rc = libbpf().bpf_map_update_elem(fd, key, value, UPDATE_FLAGS.noexist);
    if (rc === -EEXIST) return false;
    check(rc, () => `insert a key into ${this.name}`);
    return true;
  }

  /** False when there was nothing to delete. */
  delete(key: Uint8Array): boolean {
    this.#expect(key);
    const rc = libbpf().bpf_map_delete_elem(this[HANDLE].fd, key);
    if (rc === -ENOENT) return false;
    check(rc, () => `delete a key of ${this.name}`);
    return true;
  }

  /**
   * Walks the map in batches off the event loop, one batch ahead of the caller. A batch's memory
   * is reused by the next one.
   * An entry that is there during the whole walk is seen once (where the kernel has no batch
   * lookup for this type: at least once).
   */
  lookupBatch(size = 4096): AsyncGenerator<Batch, void, undefined> {
    return walkElements(this, size);
  }

  /**
   * All entries of a small map at once, each key once. Two system calls an entry, and blocks
   * the event loop: `lookupBatch` is for large ones.
   */
  readAll(): Array<[key: Uint8Array, value: Uint8Array]> {
    const found = new Map<string, [Uint8Array, Uint8Array]>();
    for (const [key, value] of eachElement(this)) {
      found.set(Buffer.from(key).toString('latin1'), [key, value]);
    }
    return [...found.values()];
  }

  /** Writes `count` keys and values that lie back to back. */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): Promise<void> {
    return updateElements(this, keys, values, count);
  }

  /** Adds those of `count` keys that are not there yet; their number. */
  insertBatch(keys: Uint8Array, values: Uint8Array, count: number): Promise<number> {
    return insertElements(this, keys, values, count);
  }

  /** Deletes those of `count` keys that are there; their number. */
  deleteBatch(keys: Uint8Array, count: number): Promise<number> {
    return deleteElements(this, keys, count);
  }

  /** Counts the entries by walking the map. */
  async count(): Promise<number> {
    let total = 0;
    for await (const batch of this.lookupBatch(16_384)) total += batch.count;
    return total;
  }

  /** Sum over all CPUs of the 64-bit counter at the head of a per-CPU value. */
  sumU64(key: Uint8Array): bigint {
    const value = this.lookup(key);
    if (!value) return 0n;
    const view = new DataView(value.buffer);
    const step = (this.valueSize + 7) & ~7;
    let sum = 0n;
    for (let at = 0; at < value.length; at += step) sum += view.getBigUint64(at, true);
    return BigInt.asUintN(64, sum);
  }

  /**
   * Outer maps: puts a map into a slot, and returns after every program has seen it. Program
   * arrays: puts a program there.
   */
  updateFd(key: Uint8Array, inner: Owned): void {
    if (!isMapInMap(this.type) && this.type !== 'prog_array') {
      throw new TypeError(`${this.name} holds no descriptors`);
    }
    const value = new Uint8Array(Uint32Array.of(inner[HANDLE].fd).buffer);
    this.update(key, value);
  }

  /**
   * Outer maps: puts as many maps as there are keys into slots, off the event loop, and returns
   * after every program has seen them.
   */
  async updateFds(keys: Uint8Array, inner: readonly Owned[]): Promise<void> {
    if (!isMapInMap(this.type)) throw new TypeError(`${this.name} is no map of maps`);
    const values = new Uint8Array(Uint32Array.from(inner, (map) => map[HANDLE].fd).buffer);
    await this.updateBatch(keys, values, inner.length);
  }

  /**
   * Outer maps: puts a map into a slot, or empties it, off the event loop: it takes until every
   * program that began before has ended.
   */
  async switchSlot(key: Uint8Array, inner: Owned | undefined): Promise<void> {
    if (!isMapInMap(this.type)) throw new TypeError(`${this.name} is no map of maps`);
    this.#expect(key);
    const { bpf_map_update_elem: update, bpf_map_delete_elem: remove } = libbpf();
    const rc = await this[HANDLE].during((fd) => {
      if (!inner) return callAsync(remove, fd, key);
      return inner[HANDLE].during((innerFd) => {
        const value = new Uint8Array(Uint32Array.of(innerFd).buffer);
        return callAsync(update, fd, key, value, UPDATE_FLAGS.any);
      });
    });
    if (!inner && rc === -ENOENT) return;
    check(rc, () => `switch a slot of ${this.name}`);
  }

  /** Outer maps only: id of the map in a slot, undefined when the slot is empty. */
  lookupId(key: Uint8Array): number | undefined {
    if (!isMapInMap(this.type)) throw new TypeError(`${this.name} is no map of maps`);
    const value = this.lookup(key);
    return value && new DataView(value.buffer).getUint32(0, true);
  }

  /**
   * The live memory of an array made with MAP_FLAGS.mmapable, element after element, each
   * rounded up to 8 bytes. Closing the map empties the view.
   */
  mmap(): Uint8Array {
    this.#mapping ??= new Mapping(
      this[HANDLE].fd,
      ((this.valueSize + 7) & ~7) * this.maxEntries,
      this.name,
    );
    return this.#mapping.bytes;
  }

  /** The same map, to be closed on its own. */
  duplicate(): BpfMap {
    return new BpfMap(duplicate(this[HANDLE].fd), this.name);
  }

  /** Bytes of kernel memory, as the kernel accounts them. */
  memory(): number {
    const text = readFileSync(`/proc/self/fdinfo/${this[HANDLE].fd}`, 'utf8');
    return Number(/^memlock:\s*(\d+)/m.exec(text)?.[1] ?? 0);
  }

  /** Pins the map; with `replace`, an older pin gives way in one step. */
  pin(path: string, { replace = false } = {}): void {
    const target = replace ? `${path}_new` : path;
    if (replace) rmSync(target, { force: true });
    check(libbpf().bpf_obj_pin(this[HANDLE].fd, target), () => `pin ${this.name} at ${path}`);
    if (replace) renameSync(target, path);
  }

  override close(): void {
    this.#mapping?.close();
    this.#mapping = undefined;
    super.close();
  }

  /** Native code trusts the sizes it is given. */
  #expect(key: Uint8Array, value?: Uint8Array): void {
    if (key.length !== this.keySize) {
      throw new RangeError(`${this.name}: a key of ${key.length} bytes, not ${this.keySize}`);
    }
    if (value && value.length !== this.valueStride) {
      throw new RangeError(`${this.name}: ${value.length} value bytes, not ${this.valueStride}`);
    }
  }
}

/** Creates a map that lives as long as it is open, pinned or used by a program. */
export function createMap(shape: MapShape): BpfMap {
  const { type, name, keySize, valueSize, maxEntries, flags = 0, inner } = shape;
  if (!(Number.isInteger(maxEntries) && maxEntries >= 0 && maxEntries <= 0xffffffff)) {
    throw new RangeError(`${name}: ${maxEntries} is no number of entries`);
  }
  const { bytes } = new Opts(48).u32(24, inner ? inner[HANDLE].fd : 0).u32(28, flags);
  const short = name.slice(0, 15);
  const { bpf_map_create: create } = libbpf();
  const rc = create(MAP_TYPES[type], short, keySize, valueSize, maxEntries, bytes);
  return new BpfMap(check(rc, () => `create map ${name} (${maxEntries} entries)`) as Fd, name);
}

/** Undefined where nothing is pinned. Throws E_LAYOUT when something else is. */
export function openPinnedMap(path: string): BpfMap | undefined {
  const pinned = openPinned(path, 'map');
  return pinned && new BpfMap(pinned.fd);
}

/** Undefined when no map has this id any more. */
export function mapById(id: number): BpfMap | undefined {
  const rc = libbpf().bpf_map_get_fd_by_id(id);
  return rc === -ENOENT ? undefined : new BpfMap(check(rc, `open map ${id}`) as Fd);
}
