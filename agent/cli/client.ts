import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { join } from 'node:path';
import type { ErrorCode } from '../lib/errors.ts';
import { ERROR_CODES, SekishoError } from '../lib/errors.ts';

const TIMEOUT_MS = 60_000;

export interface AgentClient {
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body?: unknown): Promise<T>;
  delete(path: string): Promise<void>;
}

interface Call {
  socketPath: string;
  method: string;
  path: string;
  timeout: number;
}

/**
 * Speaks to the daemon over its socket. Calls throw E_NOT_RUNNING when nobody answers there,
 * within `timeout` milliseconds, and the daemon's own error (code, message, hint) when it refuses.
 */
export function agentClient(runDir: string, timeout = TIMEOUT_MS): AgentClient {
  const socketPath = join(runDir, 'agent.sock');
  const call = (method: string, path: string, body?: unknown) =>
    exchange({ socketPath, method, path, timeout }, body);
  return {
    get: async <T>(path: string) => (await call('GET', path)) as T,
    post: async <T>(path: string, body?: unknown) => (await call('POST', path, body)) as T,
    delete: async (path) => void (await call('DELETE', path)),
  };
}

/** What the daemon says at `path`; undefined while none answers. */
export async function askAgent<T>(runDir: string, path: string): Promise<T | undefined> {
  try {
    return await agentClient(runDir).get<T>(path);
  } catch (error) {
    if (error instanceof SekishoError && error.code === 'E_NOT_RUNNING') return undefined;
    throw error;
  }
}

function exchange(call: Call, body: unknown) {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const headers = payload === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise<unknown>((resolve, reject) => {
    const sent = request({ ...call, headers }, (response) =>
      answer(response).then(resolve, reject),
    );
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')));
    sent.on('error', (cause) => reject(unreachable(call.socketPath, cause)));
    sent.end(payload);
  });
}

async function answer(response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const status = response.statusCode ?? 500;
  const value = parseBody(Buffer.concat(chunks).toString('utf8'));
  if (status < 400) return value;
  throw refusal(status, value);
}

function parseBody(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SekishoError('E_INTERNAL', 'the agent answered with something that is not JSON', {
      cause,
    });
  }
}

function refusal(status: number, value: unknown): SekishoError {
  const { code, message, hint } = (value ?? {}) as Record<string, unknown>;
  const known = typeof code === 'string' && code in ERROR_CODES;
  return new SekishoError(
    known ? (code as ErrorCode) : 'E_INTERNAL',
    typeof message === 'string' ? message : `the agent answered with status ${status}`,
    { hint: typeof hint === 'string' ? hint : undefined },
  );
}

function unreachable(socketPath: string, cause: Error): SekishoError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM') {
    return new SekishoError('E_PRIVILEGE', `cannot open ${socketPath}`, {
      cause,
      hint: 'run as root',
    });
  }
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new SekishoError('E_NOT_RUNNING', `no agent listens on ${socketPath}`, {
      cause,
      hint: 'start it with "sekisho agent" or "systemctl start sekisho"',
    });
  }
  return new SekishoError('E_NOT_RUNNING', `the agent does not answer: ${cause.message}`, {
    cause,
    hint: 'its log says what it does: journalctl -u sekisho',
  });
}
