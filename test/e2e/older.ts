import type { Edit } from '../lib/variant.ts';

const ABI = 'bpf/abi.h';

/**
 * An older version, to be carried over to this one: its structs have other sizes, fields in other
 * places, and one that is still unknown.
 */
export const OLDER: Edit[] = [
  ...['endpoint', 'device', 'prefix', 'family_state'].map((struct) => ({
    file: ABI,
    find: `struct ${struct} {\n`,
    put: `struct ${struct} {\n\t__u64 pad9;\n`,
  })),
  { file: ABI, find: '\t__u32 backend_id;\n', put: '' },
  { file: 'bpf/lib/conntrack.h', find: '\tentry->backend_id = 0;\n', put: '' },
  ...Array.from({ length: 4 }, () => ({
    file: 'bpf/lib/service.h',
    find: 'entry->backend_id',
    put: 'entry->src_identity',
  })),
  { file: ABI, find: '\t__u32 created; /* s */\n', put: '' },
  { file: ABI, find: 'struct nat_entry {\n', put: 'struct nat_entry {\n\t__u32 created;\n' },
  { file: ABI, find: '(COUNTER_COUNT ==', put: '(COUNTER_COUNT - 1 ==' },
  { file: ABI, find: '\tCOUNTER_COUNT =', put: '\tCOUNTER_FORGOTTEN,\n\tCOUNTER_COUNT = 1 +' },
];
