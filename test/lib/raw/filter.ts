import ipaddr from 'ipaddr.js';

/** One classic BPF instruction: code, jump if true, jump if false, operand. */
type Instruction = [code: number, jt: number, jf: number, k: number];

const LOAD_WORD = 0x20;
const LOAD_HALF = 0x28;
const AND = 0x54;
const JUMP_EQUAL = 0x15;
const RETURN = 0x06;

const ETHERTYPE = 12;
const FAMILY = {
  ipv4: { type: 0x0800, source: 14 + 12 },
  ipv6: { type: 0x86dd, source: 14 + 8 },
} as const;

/**
 * A socket filter (`struct sock_filter[]`) that keeps frames whose IP source lies in one of the
 * prefixes, so that the kernel queues nothing else however much passes.
 */
export function sourceFilter(prefixes: readonly string[]): Uint8Array {
  const accept: Instruction = [RETURN, 0, 0, 0xffffffff];
  const blocks = prefixes.map((prefix) => [...matchSource(prefix), accept]);
  return encode([...blocks.flat(), [RETURN, 0, 0, 0]]);
}

/** Falls through on a match and skips to the end of the block otherwise. */
function matchSource(text: string): Instruction[] {
  const [address, length] = ipaddr.parseCIDR(text);
  const { type, source } = FAMILY[address.kind()];
  const bytes = new DataView(Uint8Array.from(address.toByteArray()).buffer);
  const code: Instruction[] = [
    [LOAD_HALF, 0, 0, ETHERTYPE],
    [JUMP_EQUAL, 0, 0, type],
  ];
  for (let at = 0; at * 8 < length; at += 4) {
    const bits = Math.min(32, length - at * 8);
    const mask = (0xffffffff << (32 - bits)) >>> 0;
    code.push([LOAD_WORD, 0, 0, source + at], [AND, 0, 0, mask]);
    code.push([JUMP_EQUAL, 0, 0, (bytes.getUint32(at) & mask) >>> 0]);
  }
  return code.map((instruction, at) =>
    instruction[0] === JUMP_EQUAL ? [JUMP_EQUAL, 0, code.length - at, instruction[3]] : instruction,
  );
}

function encode(code: Instruction[]): Uint8Array {
  const bytes = new Uint8Array(code.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [at, [operation, jt, jf, k]] of code.entries()) {
    view.setUint16(at * 8, operation, true);
    bytes.set([jt, jf], at * 8 + 2);
    view.setUint32(at * 8 + 4, k, true);
  }
  return bytes;
}
