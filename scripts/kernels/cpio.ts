/** A file of an initramfs; a directory when it has no contents. */
export interface Entry {
  path: string;
  contents?: Buffer;
}

const DIRECTORY = 0o040755;
const PROGRAM = 0o100755;

/** An archive in the "newc" form that the kernel unpacks (buffer-format.rst). Parents first. */
export function cpio(entries: readonly Entry[]): Buffer {
  const parts = entries.flatMap(({ path, contents }, i) =>
    member(path, i + 1, contents ? PROGRAM : DIRECTORY, contents ?? Buffer.alloc(0)),
  );
  return Buffer.concat([...parts, ...member('TRAILER!!!', 0, 0, Buffer.alloc(0))]);
}

function member(path: string, inode: number, mode: number, contents: Buffer): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  const [owner, group, links, time, device] = [0, 0, 1, 0, 0];
  const fields = [
    ...[inode, mode, owner, group, links, time, contents.length],
    ...[device, device, device, device, name.length, 0],
  ];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return [padded(Buffer.concat([Buffer.from(header), name])), padded(contents)];
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
