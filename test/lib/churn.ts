import type { Census } from './peer/tcp.ts';
import { nth, type Scene } from './scene.ts';
import type { Family } from './topology.ts';

export interface Churn {
  family: Family;
  /** Long-lived connections. */
  connections: number;
  /** In each of them the flood alone fills the NAT table twice over. */
  rounds: number;
  /** Entries of the NAT table. */
  capacity: number;
  /** Local port of the first connection; outside the NAT range every one is translated. */
  firstPort: number;
  /** Milliseconds that a connection may take to answer before it counts as dead. */
  patience?: number;
}

export interface ChurnResult extends Census {
  /** UDP flows of the flood, two NAT entries each. */
  flows: number;
}

const TCP_PORT = 5432;
const UDP_PORT = 53;
const FIRST_FLOOD_PORT = 33_000;
const FLOOD_PORTS = 32_000;
const PREFIX = 'long-';
const GROUP = 250;

/** Opens the long-lived connections. */
export async function openLongLived(
  scene: Scene,
  { family, connections, firstPort }: Churn,
): Promise<Census> {
  const host = nth(scene.topo.worldAddresses)[family];
  await scene.world.listen({ host, port: TCP_PORT });
  await scene.world.udpListen({ host, port: UDP_PORT });
  const options = { prefix: PREFIX, count: connections, host, port: TCP_PORT };
  return nth(scene.pods).connectMany({ ...options, localPort: firstPort });
}

/**
 * In each round a flood of new UDP flows fills the NAT table twice over; then the server says
 * something on every connection, and after that its client does and waits for the answer.
 */
export async function churn(
  scene: Scene,
  { family, connections, rounds, capacity, patience = 15_000 }: Churn,
  onRound: (round: number, census: Census) => void = () => {},
): Promise<ChurnResult> {
  const host = nth(scene.topo.worldAddresses)[family];
  const count = capacity;
  let census: Census = { alive: 0, dead: {} };
  for (let round = 0; round < rounds; round++) {
    const localPort = FIRST_FLOOD_PORT + ((round * count) % FLOOD_PORTS);
    await nth(scene.pods).udpFlood({ host, port: UDP_PORT, localPort, count });
    census = await speak(scene, connections, `round ${round}`, patience);
    onRound(round, census);
  }
  return { ...census, flows: rounds * count };
}

/** In groups: a server that waits long for its client backs off, and the round would take long. */
async function speak(
  scene: Scene,
  connections: number,
  text: string,
  timeout: number,
): Promise<Census> {
  const total: Census = { alive: 0, dead: {} };
  for (let first = 0; first < connections; first += GROUP) {
    const group = { prefix: PREFIX, first, count: Math.min(GROUP, connections - first) };
    await scene.world.sayMany({ ...group, text: `news of ${text}` });
    const { alive, dead } = await nth(scene.pods).exchangeMany({ ...group, text, timeout });
    total.alive += alive;
    for (const [reason, count] of Object.entries(dead)) {
      total.dead[reason] = (total.dead[reason] ?? 0) + count;
    }
  }
  return total;
}
