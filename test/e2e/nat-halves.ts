import { type FlowKey, KIND, openTable, reverseKey, type Translation } from '../lib/tables.ts';
import type { Family, Node } from '../lib/topology.ts';

const EXPIRES_OFFSET = { ipv4: 8, ipv6: 20 } as const;

/**
 * NAT entries that had expired at `now`, seconds of the datapath's clock, and those whose other half
 * is missing or leads elsewhere.
 */
export async function brokenHalves(node: Node, family: Family, now: number): Promise<string[]> {
  using table = openTable(node, family, 'snat');
  const entries = await table.entries();
  const known = new Map(entries.map(({ key, translation }) => [textOf(key), translation]));
  return entries.flatMap(({ key, value, translation }) => {
    const { buffer, byteOffset } = value;
    const expires = new DataView(buffer, byteOffset).getUint32(EXPIRES_OFFSET[family], true);
    if (expires <= now) return [`${textOf(key)} expired ${now - expires} s ago`];
    const partner = partnerOf(key, translation);
    const back = known.get(textOf(partner));
    const expected = key.kind === KIND.OUT ? sourceOf(key) : { address: key.dst, port: key.dport };
    return back?.address === expected.address && back.port === expected.port
      ? []
      : [
          `${textOf(key)} leads to ${textOf(partner)}, which leads to ${back?.address}:${back?.port}`,
        ];
  });
}

function partnerOf(key: FlowKey, translation: Translation): FlowKey {
  if (key.kind === KIND.OUT) return reverseKey(key, translation);
  const { src, sport, protocol } = key;
  const { address, port } = translation;
  return { src: address, dst: src, sport: port, dport: sport, protocol, kind: KIND.OUT };
}

function sourceOf({ src, sport }: FlowKey): Translation {
  return { address: src, port: sport };
}

function textOf({ src, sport, dst, dport, protocol, kind }: FlowKey): string {
  return `${protocol}/${kind} ${src}:${sport} > ${dst}:${dport}`;
}
