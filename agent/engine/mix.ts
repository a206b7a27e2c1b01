/** Mixes a word into a hash of 32 bits. */
export function mix(hash: number, word: number): number {
  const spread = Math.imul(hash ^ Math.imul(word, 0x9e3779b1), 0x85ebca6b);
  return spread ^ (spread >>> 15);
}
