const CLOSING = /^(processed \d+ insns|verification time|stack depth|max_states|mark_precise)/;

/**
 * What of a verifier log explains the refusal: its last lines, without the statistics that
 * close it. The text ends at its first NUL.
 */
export function relevantLines(log: Uint8Array, count = 15): string {
  const end = log.indexOf(0);
  const used = log.subarray(0, end < 0 ? log.length : end);
  const tail = Buffer.from(used.subarray(-64 * 1024)).toString('latin1');
  const lines = tail.split('\n').map((line) => line.trimEnd());
  return lines
    .filter((line) => line !== '' && !CLOSING.test(line))
    .slice(-count)
    .join('\n');
}
