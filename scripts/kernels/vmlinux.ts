import { spawnSync } from 'node:child_process';

/** Fields of the x86 boot protocol (Documentation/arch/x86/boot.rst), bytes from the start. */
const SETUP_SECTORS = 0x1f1;
const MAGIC = 0x202;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;
/** The build appends the unpacked size. */
const TRAILER = 4;

const UNPACKERS: readonly [magic: string, command: string][] = [
  ['fd377a585a00', 'xz'],
  ['28b52ffd', 'zstd'],
  ['02214c18', 'lz4'],
  ['1f8b', 'gzip'],
];
const ELF = '7f454c46';

/**
 * The ELF kernel inside a bzImage. QEMU enters it directly (PVH), which spares an emulated
 * processor the unpacking. Throws when the file is none, or its packer is not known.
 */
export function extractVmlinux(image: Buffer): Buffer {
  if (image.toString('latin1', MAGIC, MAGIC + 4) !== 'HdrS') throw new Error('not a bzImage');
  const start = (image.readUInt8(SETUP_SECTORS) + 1) * SECTOR + image.readUInt32LE(PAYLOAD_OFFSET);
  const payload = image.subarray(start, start + image.readUInt32LE(PAYLOAD_LENGTH) - TRAILER);
  const head = payload.toString('hex', 0, 8);
  const unpacker = UNPACKERS.find(([magic]) => head.startsWith(magic))?.[1];
  if (!unpacker) throw new Error(`the kernel is packed in an unknown way: ${head}`);
  const vmlinux = unpack(unpacker, payload);
  if (vmlinux.toString('hex', 0, 4) !== ELF) throw new Error(`${unpacker} gave no ELF file`);
  return vmlinux;
}

/** Runs `command -dc` over bytes; lz4, xz, zstd and gzip all know these options. */
export function unpack(command: string, packed: Buffer): Buffer {
  const { stdout, stderr, status, error } = spawnSync(command, ['-dc'], {
    input: packed,
    maxBuffer: 1 << 28,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
  return stdout;
}
