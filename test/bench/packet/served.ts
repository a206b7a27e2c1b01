/** What a service makes of an IPv4 packet: whether it did shows in the frame. */
export const SERVED = {
  'led to its backend': (before, after) => differ(before, after, DESTINATION),
  'led to its backend as the node': (before, after) =>
    differ(before, after, DESTINATION) && differ(before, after, SOURCE),
  'sent as the frontend': (before, after) => differ(before, after, SOURCE),
  wrapped: (before, after) => after.length > before.length,
  unwrapped: (before, after) => after.length < before.length,
} satisfies Record<string, (before: Uint8Array, after: Uint8Array) => boolean>;

export type Served = keyof typeof SERVED;

/** Of addresses the half that the wrapper leaves alone. */
const SOURCE = [26, 28] as const;
const DESTINATION = [30, 32] as const;

function differ(before: Uint8Array, after: Uint8Array, at: readonly [number, number]): boolean {
  return Buffer.compare(before.subarray(...at), after.subarray(...at)) !== 0;
}
