import { backend_table_size } from '../abi/generated.ts';

/*
 * Which backend a connection's hash leads to. Maglev (Eisenbud et al., NSDI 2016, section 3.4):
 * every backend has a permutation of the table's slots, and they take turns, each taking the
 * first slot of its own that is free. A permutation follows from the backend's address alone, so
 * that every node builds the same table, and a backend that goes leaves the others nearly where
 * they were.
 */

export const TABLE_SIZE = backend_table_size.BACKEND_TABLE_SIZE;

/** Numbers that one member takes in a packed list: id, two hashes, weight. */
export const MEMBER_WORDS = 4;

/** A backend that stands in a table. */
export interface Member {
  id: number;
  /** Of what it is to every node: `hashBackend`. */
  hash: BackendHash;
  /** From 1. */
  weight: number;
}

export interface BackendHash {
  first: number;
  second: number;
}

const SEEDS = [0x5ec1_5b0a, 0x2f0e_9d63] as const;

/** Two hashes of address, port and protocol: the same on every node. */
export function hashBackend(address: Uint8Array, port: number, protocol: number): BackendHash {
  const words = wordsOf(address, port, protocol);
  return { first: hashWords(words, SEEDS[0]), second: hashWords(words, SEEDS[1]) };
}

/** Members as `buildTable` takes them, in an order that their ids have no part in. */
export function packMembers(members: readonly Member[]): Uint32Array<ArrayBuffer> {
  const ordered = members.toSorted(
    ({ hash: a }, { hash: b }) => a.first - b.first || a.second - b.second,
  );
  const packed = new Uint32Array(members.length * MEMBER_WORDS);
  for (const [i, { id, hash, weight }] of ordered.entries()) {
    packed.set([id, hash.first, hash.second, weight], i * MEMBER_WORDS);
  }
  return packed;
}

/** Of what is built from packed members: 16 hexadecimal digits, others for whatever else. */
export function tableDigest(packed: Uint32Array): string {
  return SEEDS.map((seed) => hashWords(packed, seed).toString(16).padStart(8, '0')).join('');
}

/** Memory of a build, used again by the next one: what is looked at in no order fits a cache. */
export interface Workspace {
  /** Of each slot: the place of the member that has it, from 1. The wide one is for many. */
  owners: Uint8Array;
  wideOwners: Uint16Array;
  /** Of each member: its next slot, and the way to the one after it. */
  next: Uint32Array;
  skip: Uint32Array;
  weight: Uint32Array;
  /** What it has saved up: a turn costs the largest weight. */
  credit: Uint32Array;
}

export function createWorkspace(): Workspace {
  const none = new Uint32Array(0);
  return {
    owners: new Uint8Array(TABLE_SIZE),
    wideOwners: new Uint16Array(TABLE_SIZE),
    ...{ next: none, skip: none, weight: none, credit: none },
  };
}

/** Fills `table` (TABLE_SIZE) with the ids of packed members; with zeros where there is none. */
export function buildTable(packed: Uint32Array, table: Uint32Array, work: Workspace): void {
  const count = packed.length / MEMBER_WORDS;
  if (count <= 1) {
    table.fill(packed[0] ?? 0);
    return;
  }
  const heaviest = prepare(packed, count, work);
  const owners = count < 255 ? work.owners : work.wideOwners;
  fillSlots(owners, count, heaviest, work);
  for (let slot = 0; slot < TABLE_SIZE; slot++) {
    table[slot] = packed[(owners[slot]! - 1) * MEMBER_WORDS]!;
  }
}

function fillSlots(
  owners: Uint8Array | Uint16Array,
  count: number,
  heaviest: number,
  { next, skip, weight, credit }: Workspace,
): void {
  owners.fill(0);
  let free = TABLE_SIZE;
  for (;;) {
    for (let i = 0; i < count; i++) {
      const saved = credit[i]! + weight[i]!;
      if (saved < heaviest) {
        credit[i] = saved;
        continue;
      }
      credit[i] = saved - heaviest;
      const step = skip[i]!;
      let slot = next[i]!;
      while (owners[slot] !== 0) {
        slot += step;
        if (slot >= TABLE_SIZE) slot -= TABLE_SIZE;
      }
      owners[slot] = i + 1;
      next[i] = slot;
      if (--free === 0) return;
    }
  }
}

/** Starts every member's permutation; the largest weight. */
function prepare(packed: Uint32Array, count: number, work: Workspace): number {
  if (work.next.length < count) {
    work.next = new Uint32Array(count);
    work.skip = new Uint32Array(count);
    work.weight = new Uint32Array(count);
    work.credit = new Uint32Array(count);
  }
  work.credit.fill(0);
  let heaviest = 0;
  for (let i = 0; i < count; i++) {
    const at = i * MEMBER_WORDS;
    work.next[i] = packed[at + 1]! % TABLE_SIZE;
    work.skip[i] = (packed[at + 2]! % (TABLE_SIZE - 1)) + 1;
    work.weight[i] = packed[at + 3]!;
    heaviest = Math.max(heaviest, packed[at + 3]!);
  }
  return heaviest;
}

/** Network order, port and protocol last: a backend's words do not depend on the machine. */
function wordsOf(address: Uint8Array, port: number, protocol: number): number[] {
  const view = new DataView(address.buffer, address.byteOffset, address.byteLength);
  const words: number[] = [];
  for (let at = 0; at < address.length; at += 4) words.push(view.getUint32(at));
  words.push(((port << 8) | protocol) >>> 0);
  return words;
}

/** MurmurHash3, 32 bits, over whole words. */
function hashWords(words: ArrayLike<number> & Iterable<number>, seed: number): number {
  let hash = seed;
  for (const word of words) {
    const mixed = Math.imul(rotate(Math.imul(word, 0xcc9e_2d51), 15), 0x1b87_3593);
    hash = (Math.imul(rotate(hash ^ mixed, 13), 5) + 0xe654_6b64) | 0;
  }
  hash ^= words.length * 4;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
