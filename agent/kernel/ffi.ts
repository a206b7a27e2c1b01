import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi';
import { SekishoError } from '../lib/errors.ts';

declare const brand: unique symbol;

/** An open file descriptor. Never leaves this directory. */
export type Fd = number & { readonly [brand]: 'fd' };

/** An address of native memory. Never leaves this directory. */
export type Pointer<Kind extends string> = bigint & { readonly [brand]: Kind };

export type ObjectPointer = Pointer<'bpf_object'>;
export type MapPointer = Pointer<'bpf_map'>;
export type ProgramPointer = Pointer<'bpf_program'>;

/** What a `void *` argument accepts. Nothing checks its size: the caller must. */
type Memory = Uint8Array | Uint32Array | BigUint64Array | null;
type Native<Args extends unknown[], Result> = KoffiFunc<(...args: Args) => Result>;

/** libbpf. Functions that return an `int` return -errno on failure. */
export interface Libbpf {
  libbpf_set_print: Native<[callback: null], unknown>;
  libbpf_num_possible_cpus: Native<[], number>;

  bpf_map_create: Native<
    [type: number, name: string, key: number, value: number, entries: number, opts: Memory],
    number
  >;
  bpf_map_lookup_elem: Native<[fd: Fd, key: Memory, value: Memory], number>;
  bpf_map_update_elem: Native<[fd: Fd, key: Memory, value: Memory, flags: number], number>;
  bpf_map_delete_elem: Native<[fd: Fd, key: Memory], number>;
  bpf_map_get_next_key: Native<[fd: Fd, key: Memory, next: Memory], number>;
  bpf_map_lookup_batch: Native<
    [fd: Fd, from: Memory, to: Memory, keys: Memory, values: Memory, count: Memory, opts: null],
    number
  >;
  bpf_map_update_batch: Native<
    [fd: Fd, keys: Memory, values: Memory, count: Memory, opts: null],
    number
  >;
  bpf_map_delete_batch: Native<[fd: Fd, keys: Memory, count: Memory, opts: null], number>;

  bpf_obj_pin: Native<[fd: Fd, path: string], number>;
  bpf_obj_get: Native<[path: string], number>;
  bpf_obj_get_info_by_fd: Native<[fd: Fd, info: Memory, size: Memory], number>;
  bpf_map_get_fd_by_id: Native<[id: number], number>;
  bpf_prog_get_fd_by_id: Native<[id: number], number>;

  bpf_prog_load: Native<
    [
      type: number,
      name: string,
      license: string,
      instructions: Memory,
      count: number,
      opts: Memory,
    ],
    number
  >;
  bpf_prog_test_run_opts: Native<[fd: Fd, opts: Memory], number>;
  bpf_prog_query_opts: Native<[target: number, type: number, opts: Memory], number>;
  bpf_link_create: Native<[program: Fd, target: number, type: number, opts: null], number>;
  bpf_link_update: Native<[link: Fd, program: Fd, opts: null], number>;
  bpf_link_detach: Native<[link: Fd], number>;

  bpf_object__open_file: Native<[path: string, opts: Memory], ObjectPointer | null>;
  bpf_object__load: Native<[object: ObjectPointer], number>;
  bpf_object__close: Native<[object: ObjectPointer], void>;
  bpf_object__next_map: Native<[object: ObjectPointer, map: MapPointer | null], MapPointer | null>;
  bpf_object__find_map_by_name: Native<[object: ObjectPointer, name: string], MapPointer | null>;
  bpf_object__next_program: Native<
    [object: ObjectPointer, program: ProgramPointer | null],
    ProgramPointer | null
  >;
  bpf_object__find_program_by_name: Native<
    [object: ObjectPointer, name: string],
    ProgramPointer | null
  >;

  bpf_map__name: Native<[map: MapPointer], string>;
  bpf_map__type: Native<[map: MapPointer], number>;
  bpf_map__key_size: Native<[map: MapPointer], number>;
  bpf_map__value_size: Native<[map: MapPointer], number>;
  bpf_map__fd: Native<[map: MapPointer], Fd>;
  bpf_map__set_max_entries: Native<[map: MapPointer, entries: number], number>;
  bpf_map__set_autocreate: Native<[map: MapPointer, autocreate: boolean], number>;
  bpf_map__reuse_fd: Native<[map: MapPointer, fd: Fd], number>;
  bpf_map__initial_value: Native<[map: MapPointer, size: Memory], Pointer<'data'> | null>;
  bpf_map__set_initial_value: Native<[map: MapPointer, data: Memory, size: number], number>;

  bpf_program__name: Native<[program: ProgramPointer], string>;
  bpf_program__fd: Native<[program: ProgramPointer], Fd>;
  bpf_program__autoload: Native<[program: ProgramPointer], boolean>;
  bpf_program__set_autoload: Native<[program: ProgramPointer, autoload: boolean], number>;
  bpf_program__set_log_buf: Native<[program: ProgramPointer, log: Memory, size: number], number>;
}

const LIBBPF: Record<keyof Libbpf, string> = {
  libbpf_set_print: 'void *libbpf_set_print(void *)',
  libbpf_num_possible_cpus: 'int libbpf_num_possible_cpus()',

  bpf_map_create: 'int bpf_map_create(int, str, uint32_t, uint32_t, uint32_t, void *)',
  bpf_map_lookup_elem: 'int bpf_map_lookup_elem(int, void *, void *)',
  bpf_map_update_elem: 'int bpf_map_update_elem(int, void *, void *, uint64_t)',
  bpf_map_delete_elem: 'int bpf_map_delete_elem(int, void *)',
  bpf_map_get_next_key: 'int bpf_map_get_next_key(int, void *, void *)',
  bpf_map_lookup_batch:
    'int bpf_map_lookup_batch(int, void *, void *, void *, void *, void *, void *)',
  bpf_map_update_batch: 'int bpf_map_update_batch(int, void *, void *, void *, void *)',
  bpf_map_delete_batch: 'int bpf_map_delete_batch(int, void *, void *, void *)',

  bpf_obj_pin: 'int bpf_obj_pin(int, str)',
  bpf_obj_get: 'int bpf_obj_get(str)',
  bpf_obj_get_info_by_fd: 'int bpf_obj_get_info_by_fd(int, void *, void *)',
  bpf_map_get_fd_by_id: 'int bpf_map_get_fd_by_id(uint32_t)',
  bpf_prog_get_fd_by_id: 'int bpf_prog_get_fd_by_id(uint32_t)',

  bpf_prog_load: 'int bpf_prog_load(int, str, str, void *, size_t, void *)',
  bpf_prog_test_run_opts: 'int bpf_prog_test_run_opts(int, void *)',
  bpf_prog_query_opts: 'int bpf_prog_query_opts(int, int, void *)',
  bpf_link_create: 'int bpf_link_create(int, int, int, void *)',
  bpf_link_update: 'int bpf_link_update(int, int, void *)',
  bpf_link_detach: 'int bpf_link_detach(int)',

  bpf_object__open_file: 'void *bpf_object__open_file(str, void *)',
  bpf_object__load: 'int bpf_object__load(void *)',
  bpf_object__close: 'void bpf_object__close(void *)',
  bpf_object__next_map: 'void *bpf_object__next_map(void *, void *)',
  bpf_object__find_map_by_name: 'void *bpf_object__find_map_by_name(void *, str)',
  bpf_object__next_program: 'void *bpf_object__next_program(void *, void *)',
  bpf_object__find_program_by_name: 'void *bpf_object__find_program_by_name(void *, str)',

  bpf_map__name: 'str bpf_map__name(void *)',
  bpf_map__type: 'int bpf_map__type(void *)',
  bpf_map__key_size: 'uint32_t bpf_map__key_size(void *)',
  bpf_map__value_size: 'uint32_t bpf_map__value_size(void *)',
  bpf_map__fd: 'int bpf_map__fd(void *)',
  bpf_map__set_max_entries: 'int bpf_map__set_max_entries(void *, uint32_t)',
  bpf_map__set_autocreate: 'int bpf_map__set_autocreate(void *, bool)',
  bpf_map__reuse_fd: 'int bpf_map__reuse_fd(void *, int)',
  bpf_map__initial_value: 'void *bpf_map__initial_value(void *, void *)',
  bpf_map__set_initial_value: 'int bpf_map__set_initial_value(void *, void *, size_t)',

  bpf_program__name: 'str bpf_program__name(void *)',
  bpf_program__fd: 'int bpf_program__fd(void *)',
  bpf_program__autoload: 'bool bpf_program__autoload(void *)',
  bpf_program__set_autoload: 'int bpf_program__set_autoload(void *, bool)',
  bpf_program__set_log_buf: 'int bpf_program__set_log_buf(void *, void *, size_t)',
};

/** libc. Functions return -1 on failure and leave errno to `lastErrno`. */
export interface Libc {
  close: Native<[fd: Fd], number>;
  dup3: Native<[fd: Fd, target: number, flags: number], number>;
  flock: Native<[fd: number, operation: number], number>;
  mmap: Native<
    [address: null, size: number, protection: number, flags: number, fd: Fd, offset: number],
    number | bigint
  >;
  munmap: Native<[address: number | bigint, size: number], number>;
  getpagesize: Native<[], number>;
  write: Native<[fd: Fd, data: Memory, size: number], number>;
  eventfd: Native<[initial: number, flags: number], number>;
  epoll_create1: Native<[flags: number], number>;
  epoll_ctl: Native<[epoll: Fd, operation: number, fd: Fd, event: Memory], number>;
  epoll_wait: Native<[epoll: Fd, events: Memory, count: number, timeoutMs: number], number>;
  clock_getres: Native<[clock: number, resolution: BigUint64Array], number>;
  socket: Native<[domain: number, type: number, protocol: number], number>;
  send: Native<[fd: Fd, message: Uint8Array, size: number, flags: number], number>;
  recv: Native<[fd: Fd, buffer: Uint8Array, size: number, flags: number], number>;
  sendto: Native<
    [fd: number, data: Memory, size: number, flags: number, address: Memory, length: number],
    number
  >;
  strerror: Native<[errno: number], string>;
}

const LIBC: Record<keyof Libc, string> = {
  close: 'int close(int)',
  dup3: 'int dup3(int, int, int)',
  flock: 'int flock(int, int)',
  mmap: 'intptr_t mmap(void *, size_t, int, int, int, int64_t)',
  munmap: 'int munmap(intptr_t, size_t)',
  getpagesize: 'int getpagesize()',
  write: 'intptr_t write(int, void *, size_t)',
  eventfd: 'int eventfd(uint32_t, int)',
  epoll_create1: 'int epoll_create1(int)',
  epoll_ctl: 'int epoll_ctl(int, int, int, void *)',
  epoll_wait: 'int epoll_wait(int, void *, int, int)',
  clock_getres: 'int clock_getres(int, void *)',
  socket: 'int socket(int, int, int)',
  send: 'intptr_t send(int, void *, size_t, int)',
  recv: 'intptr_t recv(int, void *, size_t, int)',
  sendto: 'intptr_t sendto(int, void *, size_t, int, void *, uint32_t)',
  strerror: 'str strerror(int)',
};

let loadedLibbpf: Libbpf | undefined;
let loadedLibc: Libc | undefined;

/** libbpf, loaded on first use. Throws E_NO_LIBBPF where the machine has none. */
export function libbpf(): Libbpf {
  if (loadedLibbpf) return loadedLibbpf;
  const functions = bind<Libbpf>(openLibrary('libbpf.so.1'), LIBBPF);
  functions.libbpf_set_print(null);
  loadedLibbpf = functions;
  return functions;
}

/** The C library, loaded on first use. */
export function libc(): Libc {
  loadedLibc ??= bind<Libc>(koffi.load(null), LIBC);
  return loadedLibc;
}

/** Positive errno of the last native call, which must have been the last thing done. */
export function lastErrno(): number {
  return koffi.errno();
}

/** The address of a buffer's memory; whoever stores it must keep the buffer referenced. */
export function addressOf(memory: Uint8Array): bigint {
  return koffi.address(memory);
}

/** Native memory as bytes, not copied: valid only as long as the memory is. */
export function viewOf(pointer: number | bigint, size: number): Uint8Array {
  return new Uint8Array(koffi.view(BigInt(pointer), size));
}

const inFlight = new Set<unknown>();

/**
 * Runs a native function on the thread pool. Its arguments stay referenced until it has
 * returned: the FFI itself would let the collector free their memory under the call.
 */
export function callAsync<Args extends unknown[], Result>(
  native: Native<Args, Result>,
  ...args: Args
): Promise<Result> {
  return new Promise((resolve, reject) => {
    inFlight.add(args);
    const done = (error: unknown, result: Result) => {
      inFlight.delete(args);
      if (error) reject(error);
      else resolve(result);
    };
    try {
      native.async(...(args as never), done as never);
    } catch (error) {
      inFlight.delete(args);
      reject(error);
    }
  });
}

function openLibrary(name: string): LibraryHandle {
  try {
    return koffi.load(name);
  } catch (cause) {
    throw new SekishoError('E_NO_LIBBPF', `${name} cannot be loaded`, {
      hint: 'install libbpf1: run make setup',
      cause,
    });
  }
}

function bind<Functions>(
  library: LibraryHandle,
  prototypes: Record<keyof Functions & string, string>,
): Functions {
  const entries = Object.entries<string>(prototypes);
  return Object.fromEntries(
    entries.map(([name, prototype]) => [name, library.func(prototype)]),
  ) as Functions;
}
