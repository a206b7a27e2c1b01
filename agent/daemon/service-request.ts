import { setImmediate as nextTurn } from 'node:timers/promises';
import { formatPath, problemsOf } from '../config/problem.ts';
import { serviceSchema } from '../config/service-schema.ts';
import { type PreparedService, prepareService } from '../services/prepare.ts';

/** Services that are read before others have a turn. */
const AT_A_TIME = 64;

/** One service of a request: what it asks for, or why it cannot be read. */
export interface RequestedService {
  /** Empty where it has none that can be read. */
  name: string;
  /** What was sent, to be recognised when it is sent again. */
  text: string;
  service?: PreparedService;
  problem?: string;
}

/** Reads what was sent; what `isKnown` is not read again, and has no service. */
export async function readRequests(
  items: readonly unknown[],
  isKnown: (name: string, text: string) => boolean,
): Promise<RequestedService[]> {
  const requests: RequestedService[] = [];
  for (const item of items) {
    const text = JSON.stringify(item) ?? 'null';
    const name = nameOf(item);
    if (isKnown(name, text)) requests.push({ name, text });
    else {
      requests.push({ name, text, ...readService(item) });
      if (requests.length % AT_A_TIME === 0) await nextTurn();
    }
  }
  return requests;
}

/** The messages are those of the configuration file, with paths inside the service. */
function readService(item: unknown): { service: PreparedService } | { problem: string } {
  const result = serviceSchema.safeParse(item);
  if (result.success) return { service: prepareService(result.data) };
  const issues = result.error.issues.map((issue) => {
    return { ...issue, path: ['services', 0, ...issue.path] };
  });
  const [problem] = problemsOf(issues, { services: [item] });
  const where = formatPath(problem?.path.slice(2) ?? []);
  const message = problem?.message.replace('"services[0].', '"');
  return { problem: `${where ? `${where}: ` : ''}${message}` };
}

function nameOf(item: unknown): string {
  const name = (item as { name?: unknown } | null)?.name;
  return typeof name === 'string' ? name : '';
}
