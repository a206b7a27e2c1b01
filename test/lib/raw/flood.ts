/** Where in a frame a flow's own numbers stand, and the checksums that cover them; bytes. */
export interface FloodFields {
  /** The low 16 bits of the destination. */
  address: number;
  sport: number;
  /** Checksums over the destination, and over destination and port. */
  network?: number;
  transport: number;
}

const PORTS = 20_000;

/** Makes frame `i` of a flood out of the one before: another destination, another source port. */
export function nextFlow(frame: Buffer, fields: FloodFields, i: number): void {
  const { address, sport, network, transport } = fields;
  const to = 1 + (i % 0xfffe);
  const from = 1024 + (Math.floor(i / 0xfffe) % PORTS);
  const before = [frame.readUInt16BE(address), frame.readUInt16BE(sport)] as const;
  frame.writeUInt16BE(to, address);
  frame.writeUInt16BE(from, sport);
  if (network !== undefined) update(frame, network, before[0], to);
  update(frame, transport, before[0], to);
  update(frame, transport, before[1], from);
}

/** RFC 1624, equation 3. */
function update(frame: Buffer, at: number, before: number, after: number): void {
  let sum = (~frame.readUInt16BE(at) & 0xffff) + (~before & 0xffff) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  frame.writeUInt16BE(~sum & 0xffff, at);
}
