import { execFileSync } from 'node:child_process';

/** The index of an interface of this process's network namespace. Throws when there is none. */
export function interfaceIndex(name: string): number {
  const text = execFileSync('ip', ['-json', 'link', 'show', name], { encoding: 'utf8' });
  const [link] = JSON.parse(text) as { ifindex: number }[];
  if (!link) throw new Error(`no interface is called ${name}`);
  return link.ifindex;
}
