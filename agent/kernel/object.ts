import { KernelError, SekishoError } from '../lib/errors.ts';
import { check, errnoName, kernelError } from './error.ts';
import {
  callAsync,
  type Fd,
  lastErrno,
  libbpf,
  type MapPointer,
  type ObjectPointer,
  type ProgramPointer,
  viewOf,
} from './ffi.ts';
import { duplicate, HANDLE } from './handle.ts';
import { BpfMap } from './map.ts';
import { mapTypeName } from './map-types.ts';
import { BpfProgram } from './program.ts';
import { relevantLines } from './verifier-log.ts';

const LOG_SIZE = 16 * 1024 * 1024;
const RODATA = '.rodata';

/**
 * A compiled BPF file: adjusted first, then loaded. Maps and programs taken out of it own
 * descriptors of their own and outlive it.
 */
export class BpfObject {
  readonly #path: string;
  #pointer: ObjectPointer | undefined;
  #loading = false;
  /** libbpf keeps their addresses until the object is closed. */
  readonly #logs = new Map<string, Uint8Array>();

  constructor(pointer: ObjectPointer, path: string) {
    this.#pointer = pointer;
    this.#path = path;
  }

  /** Names of its maps, internal ones included. */
  maps(): string[] {
    const names: string[] = [];
    let map = libbpf().bpf_object__next_map(this.#object, null);
    for (; map; map = libbpf().bpf_object__next_map(this.#object, map)) {
      names.push(libbpf().bpf_map__name(map));
    }
    return names;
  }

  /** Names of its programs. */
  programs(): string[] {
    const names: string[] = [];
    for (const program of this.#programs()) names.push(libbpf().bpf_program__name(program));
    return names;
  }

  setMaxEntries(name: string, entries: number): void {
    if (!(Number.isInteger(entries) && entries > 0 && entries <= 0xffffffff)) {
      throw new RangeError(`${name}: ${entries} is no number of entries`);
    }
    const rc = libbpf().bpf_map__set_max_entries(this.#map(name), entries);
    check(rc, () => `size map ${name}`);
  }

  /** Uses an existing map in place of the declared one. Throws E_LAYOUT when they differ. */
  reuseMap(name: string, map: BpfMap): void {
    const declared = this.#map(name);
    const {
      bpf_map__type: type,
      bpf_map__key_size: keySize,
      bpf_map__value_size: valueSize,
    } = libbpf();
    const wanted = `${mapTypeName(type(declared))} ${keySize(declared)} -> ${valueSize(declared)}`;
    const found = `${map.type} ${map.keySize} -> ${map.valueSize}`;
    if (wanted !== found) {
      throw new SekishoError('E_LAYOUT', `map ${name} is ${found} bytes, not ${wanted}`);
    }
    check(libbpf().bpf_map__reuse_fd(declared, map[HANDLE].fd), () => `reuse map ${name}`);
  }

  /** A copy of the read-only data as it stands: compiled, or set since. */
  rodata(): Uint8Array {
    const size = new BigUint64Array(1);
    const data = libbpf().bpf_map__initial_value(this.#map(RODATA), size);
    if (!data) throw new SekishoError('E_NOT_FOUND', `${this.#path} has no read-only data`);
    return viewOf(data, Number(size[0])).slice();
  }

  /** Overwrites the read-only data from `offset` on, before `load`. */
  setRodata(bytes: Uint8Array, offset = 0): void {
    const data = this.rodata();
    if (offset + bytes.length > data.length) {
      throw new RangeError(`${bytes.length} bytes at ${offset} in ${data.length} of ${RODATA}`);
    }
    data.set(bytes, offset);
    const rc = libbpf().bpf_map__set_initial_value(this.#map(RODATA), data, data.length);
    check(rc, () => `set the constants of ${this.#path}`);
  }

  /** Programs without autoload are left out of `load`. */
  setAutoload(program: string, autoload: boolean): void {
    const rc = libbpf().bpf_program__set_autoload(this.#program(program), autoload);
    check(rc, () => `choose program ${program}`);
  }

  /** Creates the maps and loads the programs. Throws E_LOAD with the verifier's last lines. */
  load(): void {
    this.#prepareLogs();
    this.#finishLoad(libbpf().bpf_object__load(this.#object));
  }

  /** Like `load`, off the event loop: the verifier may take seconds. */
  async loadAsync(): Promise<void> {
    this.#prepareLogs();
    this.#finishLoad(await this.#loadApart());
  }

  /**
   * Creates one of its maps and nothing else, off the event loop: memory of a large map takes a
   * while to get. It comes with its types: before Linux 6.2 an outer map whose template has BTF
   * takes no map without.
   */
  async createMap(name: string, entries: number): Promise<BpfMap> {
    for (const program of this.programs()) this.setAutoload(program, false);
    for (const other of this.maps()) {
      const rc = libbpf().bpf_map__set_autocreate(this.#map(other), other === name);
      check(rc, () => `choose map ${other}`);
    }
    this.setMaxEntries(name, entries);
    check(await this.#loadApart(), () => `create map ${name} (${entries} entries)`);
    return this.map(name);
  }

  /** A loaded map, under its full name. */
  map(name: string): BpfMap {
    const fd = check(libbpf().bpf_map__fd(this.#map(name)), `open map ${name}`) as Fd;
    return new BpfMap(duplicate(fd), name);
  }

  /** A loaded program, under its full name. */
  program(name: string): BpfProgram {
    const fd = libbpf().bpf_program__fd(this.#program(name));
    check(fd, `open program ${name}`);
    return new BpfProgram(duplicate(fd), name);
  }

  close(): void {
    if (this.#pointer === undefined) return;
    const pointer = this.#pointer;
    this.#pointer = undefined;
    if (!this.#loading) libbpf().bpf_object__close(pointer);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  get #object(): ObjectPointer {
    if (this.#pointer === undefined) throw new SekishoError('E_CLOSED', `${this.#path} is closed`);
    return this.#pointer;
  }

  *#programs(): Generator<ProgramPointer> {
    let program = libbpf().bpf_object__next_program(this.#object, null);
    for (; program; program = libbpf().bpf_object__next_program(this.#object, program)) {
      yield program;
    }
  }

  #map(name: string): MapPointer {
    const map = libbpf().bpf_object__find_map_by_name(this.#object, name);
    if (!map) throw new SekishoError('E_NOT_FOUND', `${this.#path} has no map ${name}`);
    return map;
  }

  #program(name: string): ProgramPointer {
    const program = libbpf().bpf_object__find_program_by_name(this.#object, name);
    if (!program) throw new SekishoError('E_NOT_FOUND', `${this.#path} has no program ${name}`);
    return program;
  }

  /** What libbpf says of it; closed meanwhile, the object goes when that is over. */
  async #loadApart(): Promise<number> {
    const pointer = this.#object;
    this.#loading = true;
    try {
      return await callAsync(libbpf().bpf_object__load, pointer);
    } finally {
      this.#loading = false;
      if (this.#pointer === undefined) libbpf().bpf_object__close(pointer);
    }
  }

  /** libbpf fills a log when a program is refused, and then only. */
  #prepareLogs(): void {
    for (const program of this.#programs()) {
      if (!libbpf().bpf_program__autoload(program)) continue;
      const log = new Uint8Array(LOG_SIZE);
      this.#logs.set(libbpf().bpf_program__name(program), log);
      const rc = libbpf().bpf_program__set_log_buf(program, log, log.length);
      check(rc, 'set a log buffer');
    }
  }

  #finishLoad(result: number): void {
    if (result >= 0) return;
    const refused = [...this.#logs].find(([, log]) => log[0] !== 0);
    if (!refused) throw kernelError(-result, `load ${this.#path}`);
    const [name, log] = refused;
    const detail = relevantLines(log);
    throw new KernelError({
      code: 'E_LOAD',
      operation: `load program ${name}`,
      errno: -result,
      errnoName: errnoName(-result),
      reason: detail.slice(detail.lastIndexOf('\n') + 1),
      detail,
    });
  }
}

/** Opens a compiled BPF file without loading anything. */
export function openObject(path: string): BpfObject {
  const pointer = libbpf().bpf_object__open_file(path, null);
  if (!pointer) throw kernelError(lastErrno(), `open ${path}`);
  return new BpfObject(pointer, path);
}
