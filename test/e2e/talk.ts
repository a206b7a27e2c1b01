import assert from 'node:assert/strict';
import type { Peer } from '../lib/peer.ts';

export type Protocol = 'tcp' | 'udp';

const PATIENCE = 6000;

interface Target {
  tag: string;
  host: string;
  port: number;
  localPort: number;
}

/** A connection between a client and whoever answers it, in either protocol. */
export interface Conversation {
  backendSays(text: string): Promise<unknown>;
  clientHears(): Promise<string>;
  /** The client says something and hears it back. */
  exchange(text: string): Promise<unknown>;
  /** After the backend's words went astray: the client speaks, and the connection goes on. */
  recover(text: string): Promise<unknown>;
  /** Fails unless both ends have it as they had it at first. */
  assertAlive(): Promise<void>;
}

export async function tcpConversation(
  client: Peer,
  server: Peer,
  target: Target,
): Promise<Conversation> {
  const { tag } = target;
  await client.connect(target);
  const ends = await server.endpoints({ tag });
  return {
    backendSays: (text) => server.say({ tag, text }),
    clientHears: () => client.hear({ tag, timeout: PATIENCE }),
    exchange: (text) => client.exchange({ tag, text, timeout: PATIENCE }),
    async recover(text) {
      await client.say({ tag, text: 'client' });
      assert.equal(await client.hear({ tag, timeout: PATIENCE }), text, 'what was sent again');
      assert.equal(await client.hear({ tag, timeout: PATIENCE }), 'client');
    },
    async assertAlive() {
      for (const peer of [client, server]) assert.equal(await peer.ended({ tag }), null);
      assert.deepEqual(await server.endpoints({ tag }), ends);
    },
  };
}

export async function udpConversation(
  client: Peer,
  server: Peer,
  target: Target,
): Promise<Conversation> {
  const { tag } = target;
  const exchange = (text: string) =>
    client.udpExchange({ tag, text, attempts: 3, timeout: PATIENCE / 4 });
  await client.udpOpen(target);
  await exchange('first');
  const ends = await server.udpEndpoints({ tag });
  return {
    backendSays: (text) => server.udpSay({ tag, text }),
    clientHears: () => client.udpHear({ tag, timeout: PATIENCE }),
    exchange,
    recover: () => exchange('client'),
    async assertAlive() {
      assert.deepEqual(await server.udpEndpoints({ tag }), ends);
    },
  };
}
