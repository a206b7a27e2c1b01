import type { Command } from 'commander';
import { Option } from 'commander';
import type { Config } from '../config/schema.ts';
import { FAMILIES } from '../lib/ip.ts';
import { BACKEND_STATES, type BackendState } from '../tables/names.ts';
import { askServices } from './ask-services.ts';
import { readBackends } from './backend-pins.ts';
import {
  BACKEND_HEADING,
  backendCells,
  describeBackend,
  type ListedBackend,
} from './backend-view.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf, requirePins } from './context.ts';
import { createOutput, writeJsonArray, writeLines } from './output.ts';
import { chooseService } from './service-choice.ts';
import { pinnedCounts } from './service-counts.ts';
import { tableLines } from './text-table.ts';

interface BackendOptions extends OutputOptions {
  service?: string;
  state?: BackendState;
}

export function register(program: Command): void {
  const backend = program.command('backend').description('backends of services');
  addOutputOption(backend.command('list'))
    .description('print the backends with their states')
    .option('--service <name>', 'of this service, by name or number')
    .addOption(new Option('--state <state>', 'in this state').choices([...BACKEND_STATES]))
    .action(list);
}

async function list(options: BackendOptions, command: Command): Promise<void> {
  const config = configOf(command);
  requirePins(config.state.bpffs);
  const backends = await listBackends(config, options);
  const out = createOutput();
  if (options.output === 'json') await writeJsonArray(out, backends());
  else
    await writeLines(
      out,
      tableLines(BACKEND_HEADING, () => cellsOf(backends())),
    );
}

function* cellsOf(backends: Iterable<ListedBackend>) {
  for (const backend of backends) yield backendCells(backend);
}

/** May be gone through twice. */
async function listBackends(
  config: Config,
  { service, state }: BackendOptions,
): Promise<() => Generator<ListedBackend, void, undefined>> {
  const { bpffs } = config.state;
  const known = await askServices(config);
  const ids = service === undefined ? undefined : chooseService(service, known).ids;
  const families = FAMILIES.map(async (family) => {
    const [{ all }, counts] = [
      await readBackends(bpffs, family),
      await pinnedCounts(bpffs, family),
    ];
    return { all, counts };
  });
  const pinned = await Promise.all(families);
  return function* backends() {
    for (const { all, counts } of pinned) {
      for (const backend of all()) {
        if (ids && !ids.includes(backend.serviceId)) continue;
        if (state && backend.state !== state) continue;
        yield describeBackend(backend, known, counts.backendConnections.get(backend.id) ?? 0);
      }
    }
  };
}
