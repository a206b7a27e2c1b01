/** Every error code of the project. A code, once published, keeps its meaning. */
export const ERROR_CODES = {
  E_USAGE: 'the command was used wrongly',
  E_CONFIG: 'the configuration is not valid',
  E_BAD_ADDRESS: 'not an IP address or prefix',
  E_BAD_DURATION: 'not a duration',
  E_PRIVILEGE: 'a capability of the process is missing',
  E_NO_LIBBPF: 'libbpf cannot be loaded',
  E_NO_BTF: 'the kernel carries no BTF',
  E_NO_BPFFS: 'the pin directory is not on a BPF file system',
  E_NO_INTERFACE: 'no such network interface',
  E_NO_MAPS: 'nothing is pinned: the datapath was never loaded here',
  E_NOT_RUNNING: 'the agent does not answer on its socket',
  E_LOCKED: 'another agent holds the lock',
  E_LAYOUT: 'pinned state has a layout this version does not know',
  E_LOAD: 'the kernel refused a BPF program',
  E_KERNEL: 'the kernel refused an operation',
  E_CLOSED: 'a kernel object was used after it was closed',
  E_NOT_FOUND: 'no such object',
  E_CONFLICT: 'the request contradicts what is there',
  E_INTERNAL: 'a bug',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorExtras {
  /** What the reader can do about it: one short phrase, without a full stop. */
  hint?: string | undefined;
  cause?: unknown;
}

/** An error with a stable code. The message is one line, lower case, without a full stop. */
export class SekishoError extends Error {
  override readonly name: string = 'SekishoError';
  readonly code: ErrorCode;
  readonly hint?: string;

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.code = code;
    if (extras.hint !== undefined) this.hint = extras.hint;
  }
}

export interface KernelFailure extends ErrorExtras {
  code?: 'E_KERNEL' | 'E_LOAD' | 'E_PRIVILEGE' | 'E_NO_INTERFACE';
  /** What was attempted, e.g. `create map ct_tcp`. */
  operation: string;
  /** Positive errno. */
  errno: number;
  /** Its symbol, e.g. `ENOENT`. */
  errnoName: string;
  /** What errno says in words. */
  reason: string;
  /** More than one line may go here: a verifier log. */
  detail?: string | undefined;
}

/** The kernel (or libbpf) answered with an errno. */
export class KernelError extends SekishoError {
  override readonly name = 'KernelError';
  readonly operation: string;
  readonly errno: number;
  readonly errnoName: string;
  readonly detail?: string;

  constructor(failure: KernelFailure) {
    const { code = 'E_KERNEL', operation, errno, errnoName, reason, detail } = failure;
    super(code, `cannot ${operation}: ${reason} (${errnoName})`, failure);
    this.operation = operation;
    this.errno = errno;
    this.errnoName = errnoName;
    if (detail) this.detail = detail;
  }
}

export interface ConfigPlace {
  file?: string | undefined;
  /** From 1. */
  line?: number | undefined;
  /** From 1. */
  column?: number | undefined;
  /** Keys from the root, e.g. `masquerade.ports.min`. */
  path?: string | undefined;
}

/** A configuration that cannot be used, and where in the file the reason stands. */
export class ConfigError extends SekishoError {
  override readonly name = 'ConfigError';
  readonly file?: string;
  readonly line?: number;
  readonly column?: number;
  readonly path?: string;

  constructor(message: string, place: ConfigPlace = {}, extras: ErrorExtras = {}) {
    super('E_CONFIG', `${describePlace(place)}${message}`, extras);
    if (place.file !== undefined) this.file = place.file;
    if (place.line !== undefined) this.line = place.line;
    if (place.column !== undefined) this.column = place.column;
    if (place.path !== undefined) this.path = place.path;
  }
}

function describePlace({ file, line, column, path }: ConfigPlace): string {
  const position = [file, line, line === undefined ? undefined : column];
  const where = position.filter((part) => part !== undefined).join(':');
  return [where, path].map((part) => (part ? `${part}: ` : '')).join('');
}

/**
 * Renders an error for a terminal: `sekisho: message (hint)` on one line.
 * With `verbose`, the code, the detail and the chain of causes follow, one indented line each.
 */
export function formatError(error: unknown, { verbose = false } = {}): string {
  const hint = error instanceof SekishoError && error.hint ? ` (${error.hint})` : '';
  const head = `sekisho: ${firstLine(messageOf(error))}${hint}`;
  return verbose ? [head, ...explain(error)].join('\n') : head;
}

function explain(error: unknown): string[] {
  const lines: string[] = [];
  for (let at = error, depth = 0; at !== undefined && depth < 10; depth++) {
    if (depth > 0) lines.push(`  caused by: ${messageOf(at)}`);
    if (at instanceof SekishoError) lines.push(`  code: ${at.code} (${ERROR_CODES[at.code]})`);
    else if (at instanceof Error && at.stack) lines.push(...indent(at.stack));
    if (at instanceof KernelError && at.detail) lines.push(...indent(at.detail));
    at = at instanceof Error ? at.cause : undefined;
  }
  return lines;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}

function indent(text: string): string[] {
  return text.split('\n').map((line) => `    ${line.trim()}`);
}
