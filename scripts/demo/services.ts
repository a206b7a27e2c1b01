import { sekisho, sekishoJson, sekishoOn } from '../../test/lib/daemon.ts';
import type { Narrator } from '../lib/narrator.ts';
import { AT_ONCE, shortConnections } from './short-connections.ts';
import { ADDRESS, buildWeb, PORT, type Server, type Web } from './web.ts';

const CONNECTIONS = 30;
const LONG = 'long-';
/** Of what the tables hold, so many lines are shown. */
const LINES = 4;

/** The second act: a service over two nodes, and backends that leave it under load. */
export async function servicesAct(narrator: Narrator): Promise<void> {
  await using web = await buildWeb();
  await oneAddress(narrator, web);
  await drained(narrator, web);
  await takenAway(narrator, web);
}

async function oneAddress({ heading, say, show, check }: Narrator, web: Web): Promise<void> {
  heading('One address, three pods on two nodes');
  const [here, ...there] = web.servers.map(({ pod }) => pod.addresses.ipv4);
  say(`client  ${web.client}`);
  say(`node    ${web.middle.addresses.ipv4}  has ${here}; the address is routed to it`);
  say(`node2   ${web.other.addresses.ipv4}  has ${there.join(' and ')}`);
  show('cat web.yaml', web.file());
  show('sekisho service apply -f web.yaml', await web.apply());

  const { alive } = await open(web, LONG, CONNECTIONS);
  check(alive === CONNECTIONS, `${CONNECTIONS} connections to ${ADDRESS}:${PORT} are open`);
  const homes = await homesOf(web, LONG, CONNECTIONS);
  const shares = web.servers.map(({ pod }, i) => `${pod.addresses.ipv4} has ${count(homes, i)}`);
  check(
    web.servers.every((_, i) => count(homes, i) > 0),
    `each pod has some of them: ${shares.join(', ')}`,
  );
  check(
    homes.every((home) => home?.seenAs === web.client),
    `and all of them see ${web.client}: the client itself`,
  );
  await showOn(show, web, 'service', 'list');
  await showOn(show, web, 'maglev', 'show', 'web');
  await records({ say, show, check }, web);
}

/** What each node has written down. */
async function records(
  { say, show, check }: Pick<Narrator, 'say' | 'show' | 'check'>,
  web: Web,
): Promise<void> {
  say('The node in the middle remembers which backend each client has, and nothing else;');
  say('the pods of the other node answer the client directly, as the service.');
  const from = ['--proto', 'tcp', '--src', web.client];
  const words = ['ct', 'list', ...from];
  const services = await sekisho(web.scene.topo, ...words, '--kind', 'svc');
  show(`sekisho ${words.join(' ')} --kind svc`, head(services.stdout || services.stderr));
  const entries = await sekishoJson<unknown[]>(web.scene.topo, ...words, '--kind', 'svc');
  const halves = await sekishoJson<unknown[]>(web.scene.topo, 'nat', 'list', ...from);
  check(
    entries.length === CONNECTIONS && halves.length === 0,
    'it has one such entry for each connection, and no NAT entry',
  );
  const file = `${web.other.runDir}/../config.yaml`;
  const other = await sekishoOn(web.other, file, ...words);
  show(`sekisho ${words.join(' ')}    # on node2`, head(other.stdout || other.stderr));
}

async function drained({ heading, say, show, check }: Narrator, web: Web): Promise<void> {
  const server = web.servers[1];
  if (!server) return;
  const address = server.pod.addresses.ipv4;
  heading(`A backend is drained, under load: ${address}`);
  say('Short connections go on all the time, and every long one keeps what it has.');
  const load = shortConnections(web);
  await load.moved();
  server.state = 'terminating';
  show(`sekisho service apply -f web.yaml    # ${address}: state: terminating`, await web.apply());
  await load.moved();
  const { alive } = await speak(web, 'drained');
  const { opened, failed } = await load.stop();
  check(alive === CONNECTIONS, `all ${CONNECTIONS} connections answer, those of ${address} too`);
  check(failed === 0, `${opened} short connections came and went; none failed`);
  const { alive: fresh } = await open(web, 'fresh-', CONNECTIONS);
  const homes = await homesOf(web, 'fresh-', CONNECTIONS);
  check(fresh === CONNECTIONS && count(homes, 1) === 0, `of ${fresh} new ones it gets none`);
  await showOn(show, web, 'backend', 'list', '--service', 'web');
}

async function takenAway({ heading, say, show, check }: Narrator, web: Web): Promise<void> {
  const server = web.servers[2];
  if (!server) return;
  const address = server.pod.addresses.ipv4;
  heading(`Another is taken away, under load: ${address}`);
  const before = await homesOf(web, LONG, CONNECTIONS);
  const lost = count(before, 2);
  const load = shortConnections(web);
  await load.moved();
  server.state = undefined;
  show(`sekisho service apply -f web.yaml    # without ${address}`, await web.apply());
  await load.moved();
  const { alive, dead } = await speak(web, 'taken away');
  const { opened, failed } = await load.stop();
  const reasons = Object.entries(dead).map(([reason, times]) => `${reason} ${times}`);
  check(alive === CONNECTIONS - lost, `the ${alive} connections of the others answer`);
  say(`the ${lost} that it had were ended: ${reasons.join(', ') || 'none'}`);
  check(
    opened > 0 && failed <= AT_ONCE,
    `${opened} short connections came and went; ${failed === 0 ? 'none' : `${failed} on their way to it`} failed`,
  );
  const { alive: again } = await open(web, 'again-', lost);
  check(lost > 0 && again === lost, 'and whoever connects again is served by the others');
  await showOn(show, web, 'service', 'get', 'web');
}

function open({ scene, client }: Web, prefix: string, count: number) {
  const target = { host: ADDRESS, port: PORT, localAddress: client };
  return scene.world.connectMany({ prefix, count, ...target });
}

/** Every long connection says something and waits for the answer. */
function speak({ scene }: Web, text: string) {
  return scene.world.exchangeMany({ prefix: LONG, count: CONNECTIONS, text, timeout: 5000 });
}

/** Where a connection ended up, and whom it is seen as there. */
interface Home {
  server: number;
  seenAs: string;
}

function homesOf({ servers }: Web, prefix: string, count: number): Promise<(Home | undefined)[]> {
  const tags = Array.from({ length: count }, (_, i) => `${prefix}${i}`);
  return Promise.all(tags.map((tag) => homeOf(servers, tag)));
}

async function homeOf(servers: readonly Server[], tag: string): Promise<Home | undefined> {
  const answers = await Promise.allSettled(servers.map(({ peer }) => peer.endpoints({ tag })));
  const server = answers.findIndex(({ status }) => status === 'fulfilled');
  const answer = answers[server];
  if (answer?.status !== 'fulfilled') return undefined;
  return { server, seenAs: answer.value.remoteAddress };
}

function count(homes: readonly (Home | undefined)[], server: number): number {
  return homes.filter((home) => home?.server === server).length;
}

async function showOn(show: Narrator['show'], { scene }: Web, ...words: string[]): Promise<void> {
  const { stdout, stderr } = await sekisho(scene.topo, ...words);
  show(`sekisho ${words.join(' ')}`, stdout || stderr);
}

/** Enough of a long listing to see what it is like. */
function head(text: string): string {
  const lines = text.trimEnd().split('\n');
  if (lines.length <= LINES) return text;
  return [...lines.slice(0, LINES), `… ${lines.length - LINES} more`].join('\n');
}
