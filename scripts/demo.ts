/**
 * Two stories, told on real connections: of a lost half, in network namespaces for a pod, a node
 * and the world, with the real daemon on the node; and of a service over two nodes. Ends with
 * status 1 when something did not happen as told, and leaves nothing behind.
 */
import { existsSync } from 'node:fs';
import { churn, openLongLived } from '../test/lib/churn.ts';
import { sekisho, startAgent } from '../test/lib/daemon.ts';
import { scrape } from '../test/lib/metrics.ts';
import { type ManagedScene, managedScene, nth } from '../test/lib/scene.ts';
import { FAMILIES, type Family } from '../test/lib/topology.ts';
import { servicesAct } from './demo/services.ts';
import { createNarrator } from './lib/narrator.ts';

const PORT = 8000;
const CONNECTIONS = 1000;
const CAPACITY = 4096;
const FAMILY: Family = 'ipv4';
const maps = { ctTcp: 4096, ctAny: 1024, nat: CAPACITY };
const ROUNDS = { without: 2, with: 4 };

const narrator = createNarrator();
const { heading, say, show, check, broken } = narrator;
const number = (value: number) => value.toLocaleString('en');

async function everydayLife(): Promise<void> {
  heading('A pod, a node, the world');
  const start = performance.now();
  await using scene = await managedScene();
  const { topo } = scene;
  const line = (name: string, addresses: Record<Family, string>, remark: string) =>
    say(`${name.padEnd(7)}${Object.values(addresses).join('  ').padEnd(33)}${remark}`.trimEnd());
  line('pod', nth(topo.pods).addresses, '');
  line('node', nth(topo.nodes).addresses, 'sekisho agent runs here');
  line('world', nth(topo.worldAddresses), 'knows no route to the pod');
  say('');
  say(`Namespaces and daemon took ${((performance.now() - start) / 1000).toFixed(1)} s.`);

  heading('The pod speaks to the world, and the world sees the node');
  for (const family of FAMILIES) await reachWorld(scene, family);

  heading('What the node has written down');
  const listings: string[][] = [
    ['ct', 'list', '--time-diff', '--proto', 'tcp'],
    ['nat', 'list', '--proto', 'tcp'],
    ['nat', 'ports', '--top', '3'],
  ];
  for (const words of listings) {
    const { stdout, stderr, code } = await sekisho(topo, ...words);
    show(`sekisho ${words.join(' ')}`, stdout || stderr);
    if (code !== 0 || stdout === '') check(false, `sekisho ${words.join(' ')} lists something`);
  }
}

async function reachWorld({ topo, pods, world }: ManagedScene, family: Family) {
  const host = nth(topo.worldAddresses)[family];
  const own = nth(topo.nodes).addresses[family];
  const pod = nth(pods);
  const tag = family;
  await world.listen({ host, port: PORT });
  await pod.connect({ tag, host, port: PORT });
  await pod.exchange({ tag });
  const tcp = await world.endpoints({ tag });
  check(tcp.remoteAddress === own, `TCP  to ${at(host, PORT)}: seen as ${seen(tcp)}`);

  await world.udpListen({ host, port: PORT });
  await pod.udpOpen({ tag, host, port: PORT });
  await pod.udpExchange({ tag, attempts: 3 });
  const udp = await world.udpEndpoints({ tag });
  check(udp.remoteAddress === own, `UDP  to ${at(host, PORT)}: seen as ${seen(udp)}`);

  const ping = await nth(topo.pods).ns.tryExec('ping', '-c', '1', '-W', '2', host);
  check(ping.code === 0, `ping ${host}: answered`);
}

/** Opens the connections, overruns the table, and answers with how many are left. */
async function overrun(restore: boolean) {
  const rounds = restore ? ROUNDS.with : ROUNDS.without;
  const settings = { maps, masquerade: { restore } };
  await using scene = await managedScene({ settings });
  const story = {
    family: FAMILY,
    connections: CONNECTIONS,
    capacity: CAPACITY,
    rounds,
    firstPort: 10_000,
    patience: restore ? 15_000 : 2_000,
  };
  const opened = await openLongLived(scene, story);
  check(opened.alive === CONNECTIONS, `${number(opened.alive)} connections are open`);
  // it would make room before LRU does: what is told here is the datapath's own doing
  await scene.agent.kill9();
  say('kill -9 of the daemon: the datapath is on its own');
  const { alive, flows } = await churn(scene, story, (round, { alive }) =>
    say(`round ${round + 1}: ${number(alive)} of ${number(CONNECTIONS)} connections answer`),
  );
  await startAgent(scene.topo, settings);
  const metrics = await scrape(scene.topo);
  const saved = metrics.text
    .split('\n')
    .filter((line) => line.startsWith('sekisho_nat_restored_total') && line.includes(FAMILY))
    .join('\n');
  const restored = metrics.sum('sekisho_nat_restored_total', { family: FAMILY });
  return { alive, flows, rounds, saved, restored };
}

async function story(): Promise<void> {
  await everydayLife();

  heading('A full table, and nothing repairs it (masquerade.restore: false)');
  say(
    `${number(CONNECTIONS)} connections take two entries each of the ${number(CAPACITY)} in the NAT table. In every`,
  );
  say('round other flows fill it twice over, and LRU evicts what the connections have there.');
  say('Then each server says something, and each client answers.');
  say('');
  const without = await overrun(false);
  check(without.alive < CONNECTIONS / 2, 'most connections were reset by their own peers');

  heading('The same again, as it ships (masquerade.restore: true)');
  const repaired = await overrun(true);
  check(
    repaired.alive === CONNECTIONS,
    `no connection died while the table was overrun ${2 * repaired.rounds} times`,
  );
  check(repaired.restored > 0, 'because lost halves came back, and each one was counted:');
  show("curl -s 127.0.0.1:9964/metrics | grep 'nat_restored.*ipv4'", repaired.saved);

  heading('Summary');
  const left = (alive: number) => `${number(alive).padStart(5)} of ${number(CONNECTIONS)} left`;
  say(`restore: false  ${left(without.alive)} after ${number(without.flows)} other flows`);
  say(`restore: true   ${left(repaired.alive)} after ${number(repaired.flows)} other flows`);
  say(`                ${number(repaired.restored)} entries brought back`);
}

const at = (host: string, port: number) =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
const seen = (from: { remoteAddress: string; remotePort: number }) =>
  at(from.remoteAddress, from.remotePort);

function complaint(): string | undefined {
  if (process.getuid?.() !== 0) return 'the demo makes network namespaces: run it as root';
  if (!existsSync(new URL('../build/bpf/ipv4.bpf.o', import.meta.url)))
    return 'run "make build" first';
  return undefined;
}

const reason = complaint();
if (reason === undefined) {
  await story();
  await servicesAct(narrator);
} else process.stderr.write(`demo: ${reason}\n`);
if (broken.length > 0)
  process.stderr.write(`\ndemo: ${broken.length} things did not happen as told\n`);
process.exitCode = reason === undefined && broken.length === 0 ? 0 : 1;
