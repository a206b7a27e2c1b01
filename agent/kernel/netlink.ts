import { kernelError } from './error.ts';
import { type Fd, lastErrno, libc } from './ffi.ts';
import { Handle } from './handle.ts';

/** Flags of a request, beside those that every one of them carries. */
export const NETLINK_FLAGS = {
  /** The answer is told to who asked, not only to those who listen. */
  echo: 0x008,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
  dump: 0x300,
};

export interface NetlinkRequest {
  /** RTM_…. */
  type: number;
  /** NETLINK_FLAGS, OR-ed. */
  flags: number;
  /** The fixed struct of this type, then attributes. */
  body: Uint8Array;
}

const HEADER = 16;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLA_TYPE_MASK = 0x3fff;
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
/** The one socket, opened when it is first needed and whenever it has failed. */
let socket: Handle | undefined;
/** No part of a dump is larger. */
const buffer = new Uint8Array(64 * 1024);

/**
 * Asks the kernel's routing socket, in the network namespace of this process. Returns the bodies
 * of the messages it answers with; those of a dump, or none. Throws KernelError with what the
 * kernel refused; `operation` completes the sentence "cannot …".
 */
export function netlink(request: NetlinkRequest, operation: string): DataView[] {
  socket ??= open(operation);
  const message = encode(request);
  if (libc().send(socket.fd, message, message.length, 0) < 0) fail(operation);
  return receive(socket.fd, operation);
}

function open(operation: string): Handle {
  const rc = libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0);
  if (rc < 0) throw kernelError(lastErrno(), operation);
  return new Handle(rc as Fd, 'a netlink socket');
}

/** What is left in a socket that failed must not be taken for the next answer. */
function fail(operation: string): never {
  const errno = lastErrno();
  socket?.close();
  socket = undefined;
  throw kernelError(errno, operation);
}

function encode({ type, flags, body }: NetlinkRequest): Uint8Array {
  const message = new Uint8Array(HEADER + body.length);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags | NLM_F_REQUEST | NLM_F_ACK, true);
  message.set(body, HEADER);
  return message;
}

/** Until the acknowledgement, or the end of the dump. */
function receive(fd: Fd, operation: string): DataView[] {
  const found: DataView[] = [];
  for (;;) {
    const size = libc().recv(fd, buffer, buffer.length, 0);
    if (size < 0) fail(operation);
    const view = new DataView(buffer.buffer);
    for (let at = 0; at + HEADER <= size; at += aligned(view.getUint32(at, true))) {
      const type = view.getUint16(at + 4, true);
      if (type === NLMSG_ERROR || type === NLMSG_DONE) {
        const result = view.getInt32(at + HEADER, true);
        if (result < 0) throw kernelError(-result, operation);
        return found;
      }
      found.push(new DataView(buffer.slice(at + HEADER, at + view.getUint32(at, true)).buffer));
    }
  }
}

/** One attribute: text, bytes, a 32-bit number, or the attributes nested in it. */
export function attribute(
  type: number,
  value: string | number | Uint8Array | Uint8Array[],
): Uint8Array {
  const payload = payloadOf(value);
  const bytes = new Uint8Array(aligned(4 + payload.length));
  new DataView(bytes.buffer).setUint16(0, 4 + payload.length, true);
  new DataView(bytes.buffer).setUint16(2, type, true);
  bytes.set(payload, 4);
  return bytes;
}

function payloadOf(value: string | number | Uint8Array | Uint8Array[]): Uint8Array {
  if (typeof value === 'string') return Buffer.from(`${value}\0`, 'latin1');
  if (typeof value === 'number') return new Uint8Array(Uint32Array.of(value).buffer);
  return Array.isArray(value) ? Buffer.concat(value) : value;
}

/** The attributes from an offset on, by type. */
export function readAttributes(view: DataView, offset = 0): Map<number, DataView> {
  const found = new Map<number, DataView>();
  for (let at = offset; at + 4 <= view.byteLength; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > view.byteLength) break;
    const type = view.getUint16(at + 2, true) & NLA_TYPE_MASK;
    found.set(type, new DataView(view.buffer, view.byteOffset + at + 4, length - 4));
    at += aligned(length);
  }
  return found;
}

/** An attribute as text, without its closing NUL. */
export function readText(value: DataView): string {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return bytes.toString('latin1').replace(/\0.*$/s, '');
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}
