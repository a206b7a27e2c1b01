import type { Command } from 'commander';
import { readStoredEndpoints } from '../daemon/endpoint-store.ts';
import { agentClient, askAgent } from './client.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf, requirePins } from './context.ts';
import type { ListedEndpoint } from './endpoint-pins.ts';
import { pinnedEndpoints } from './endpoint-pins.ts';
import { leniently } from './leniently.ts';
import { createOutput, writeJsonArray, writeLines } from './output.ts';
import { formatTable } from './text-table.ts';

export function register(program: Command): void {
  const endpoint = program.command('endpoint').description('local endpoints');
  addOutputOption(endpoint.command('list')).description('print the endpoints').action(list);
  endpoint
    .command('add <name>')
    .description('add an endpoint')
    .requiredOption('--interface <name>', "host side of the endpoint's link")
    .requiredOption('--address <address...>', 'its addresses')
    .action(add);
  endpoint.command('delete <name>').description('delete an endpoint').action(remove);
}

async function list(options: OutputOptions, command: Command): Promise<void> {
  const { bpffs, runDir } = configOf(command).state;
  const endpoints = await listEndpoints(bpffs, runDir);
  const out = createOutput();
  if (options.output === 'json') {
    await writeJsonArray(out, endpoints);
    return;
  }
  const rows = endpoints.map(({ id, name, interface: link, addresses, source, state }) => [
    id,
    name ?? '-',
    link ?? '-',
    addresses.join(' '),
    source ?? '-',
    state ?? '-',
  ]);
  const heading = ['ID', 'NAME', 'INTERFACE', 'ADDRESSES', 'SOURCE', 'STATE'];
  await writeLines(out, formatTable(heading, rows));
}

/** As the daemon knows them; without it, as the pinned maps hold them and its store names them. */
async function listEndpoints(bpffs: string, runDir: string): Promise<ListedEndpoint[]> {
  const answer = await askAgent<{ endpoints: ListedEndpoint[] }>(runDir, '/v1/endpoints');
  if (answer) return answer.endpoints;
  requirePins(bpffs);
  return pinnedEndpoints(
    bpffs,
    leniently(() => readStoredEndpoints(runDir)),
  );
}

async function add(
  name: string,
  options: { interface: string; address: string[] },
  command: Command,
): Promise<void> {
  const { runDir } = configOf(command).state;
  const addresses = options.address.flatMap((text) => text.split(',')).filter(Boolean);
  await agentClient(runDir).post('/v1/endpoints', {
    name,
    interface: options.interface,
    addresses,
  });
  await writeLines(createOutput(), [`endpoint ${name} added`]);
}

async function remove(name: string, _options: unknown, command: Command): Promise<void> {
  const { runDir } = configOf(command).state;
  await agentClient(runDir).delete(`/v1/endpoints/${encodeURIComponent(name)}`);
  await writeLines(createOutput(), [`endpoint ${name} deleted`]);
}
