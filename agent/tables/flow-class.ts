import { ct_flag, ct_seen, flow_class } from '../abi/generated.ts';

const { CT_RX_CLOSING, CT_TX_CLOSING, CT_SEEN_NON_SYN } = ct_flag;
const { CT_SEEN_BOTH, CT_RX_RESET } = ct_seen;
const BOTH_CLOSING = CT_RX_CLOSING | CT_TX_CLOSING;

/**
 * What a connection is worth when there is no room for all (`enum flow_class`), from the flags of
 * its entry and the sides seen. The same as bpf/lib/flow_class.h, which has the last word.
 */
export function flowClass(flags: number, seen: number, tcp: boolean): number {
  const both = (seen & CT_SEEN_BOTH) === CT_SEEN_BOTH;
  if (!tcp) return both ? flow_class.FLOW_ANSWERED : flow_class.FLOW_UNANSWERED;
  const reset = (seen & CT_RX_RESET) !== 0;
  if ((flags & BOTH_CLOSING) === BOTH_CLOSING && !reset) return flow_class.FLOW_CLOSING;
  if (both && (flags & CT_SEEN_NON_SYN) !== 0) return flow_class.FLOW_ESTABLISHED;
  if (reset) return flow_class.FLOW_CLOSING;
  return both ? flow_class.FLOW_OPENING : flow_class.FLOW_HALF_OPEN;
}
