import koffi, { type KoffiFunc } from 'koffi';
import { sourceFilter } from './filter.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL = 0x0003;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SO_RCVBUFFORCE = 33;
const MSG_DONTWAIT = 0x40;
const PACKET_OUTGOING = 4;
const ADDRESS_SIZE = 20;

type Libc = Record<string, KoffiFunc<(...args: unknown[]) => number>>;

const libc = load();

export interface Captured {
  frame: Uint8Array;
  direction: 'in' | 'out';
}

/** A packet socket on one interface of this process's namespace. */
export interface RawSocket {
  /** Queues one frame as it is. */
  send(frame: Uint8Array): void;
  /** The next frame that passed the interface, or undefined when none is waiting. */
  receive(): Captured | undefined;
}

/** Sends frames on an interface; hears none. */
export function openSender(name: string): RawSocket {
  return open(name, 0, undefined);
}

/** Hears every frame of an interface, or those with a source in one of the prefixes. */
export function openListener(name: string, sources?: readonly string[]): RawSocket {
  return open(name, ETH_P_ALL, sources);
}

function open(name: string, protocol: number, sources: readonly string[] | undefined): RawSocket {
  const fd = must('socket', libc.socket?.(AF_PACKET, SOCK_RAW, 0));
  if (sources) attachFilter(fd, sourceFilter(sources));
  const room = new Uint32Array([64 << 20]);
  must('setsockopt', libc.setsockopt?.(fd, SOL_SOCKET, SO_RCVBUFFORCE, room, 4));
  must('bind', libc.bind?.(fd, linkAddress(name, protocol), ADDRESS_SIZE));
  const buffer = new Uint8Array(1 << 18);
  const from = new Uint8Array(ADDRESS_SIZE);
  return {
    send(frame) {
      must('send', libc.send?.(fd, frame, frame.length, 0));
    },
    receive() {
      const size = new Uint32Array([ADDRESS_SIZE]);
      const length = libc.recvfrom?.(fd, buffer, buffer.length, MSG_DONTWAIT, from, size) ?? -1;
      if (length < 0) return undefined;
      const direction = from[10] === PACKET_OUTGOING ? 'out' : 'in';
      return { frame: buffer.slice(0, length), direction };
    },
  };
}

function load(): Libc {
  const library = koffi.load('libc.so.6');
  return {
    socket: library.func('int socket(int, int, int)'),
    bind: library.func('int bind(int, void *, uint32_t)'),
    setsockopt: library.func('int setsockopt(int, int, int, void *, uint32_t)'),
    send: library.func('int64_t send(int, void *, size_t, int)'),
    recvfrom: library.func('int64_t recvfrom(int, void *, size_t, int, void *, void *)'),
    if_nametoindex: library.func('uint32_t if_nametoindex(str)'),
  } as unknown as Libc;
}

/** `struct sockaddr_ll`. */
function linkAddress(name: string, protocol: number): Uint8Array {
  const index = libc.if_nametoindex?.(name);
  if (!index) throw new Error(`no interface is called ${name}`);
  const bytes = new Uint8Array(ADDRESS_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, protocol, false);
  view.setUint32(4, index, true);
  return bytes;
}

/** `struct sock_fprog` points to the instructions, which the kernel copies. */
function attachFilter(fd: number, instructions: Uint8Array): void {
  const program = new Uint8Array(16);
  const view = new DataView(program.buffer);
  view.setUint16(0, instructions.length / 8, true);
  view.setBigUint64(8, koffi.address(instructions), true);
  must('SO_ATTACH_FILTER', libc.setsockopt?.(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, 16));
}

function must(what: string, result: number | undefined): number {
  if (result === undefined || result < 0) throw new Error(`${what}: errno ${koffi.errno()}`);
  return Number(result);
}
